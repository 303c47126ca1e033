//! The two ports of the demo, taken once and held until the end.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use crate::cli::DemoArgs;

/// Where the guarded app is, if the port is free.
pub(super) const GUARDED_PORT: u16 = 8080;
/// Where the app alone is, if the port is free.
pub(super) const APP_PORT: u16 = 8081;

/// A port can not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("port {port} is taken by another program; choose another with {option} PORT")]
    Taken { port: u16, option: &'static str },
    #[error("cannot listen on port {port}; choose another with {option} PORT")]
    Refused {
        port: u16,
        option: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Which port is wanted, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// This one; it is an error if it is taken.
    This(u16),
    /// This one if it is free, else any.
    Rather(u16),
    /// Any: the system chooses one.
    Any,
}

/// The sockets of the demo.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) guarded: Port,
    pub(super) app: Port,
}

/// A socket that listens on this machine alone.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) listener: Arc<TcpListener>,
    pub(super) address: SocketAddr,
    /// The one that would have been taken, had it been free.
    pub(super) instead_of: Option<u16>,
}

impl Ports {
    /// Takes both.
    ///
    /// # Errors
    /// When one that was asked for is taken.
    pub(super) fn take(args: &DemoArgs) -> Result<Self, PortError> {
        let wanted = |asked: Option<u16>, usual| match asked {
            Some(port) => Wanted::This(port),
            // Nobody will type the address, and tests run beside each other.
            None if args.once => Wanted::Any,
            None => Wanted::Rather(usual),
        };
        Ok(Self {
            guarded: Port::take(wanted(args.port, GUARDED_PORT), "--port")?,
            app: Port::take(wanted(args.app_port, APP_PORT), "--app-port")?,
        })
    }
}

impl Port {
    fn take(wanted: Wanted, option: &'static str) -> Result<Self, PortError> {
        let (number, instead_of) = match wanted {
            Wanted::This(port) | Wanted::Rather(port) => (port, None),
            Wanted::Any => (0, None),
        };
        match (listen(number), wanted) {
            (Ok((listener, address)), _) => Ok(Self { listener: Arc::new(listener), address, instead_of }),
            (Err(_), Wanted::Rather(port)) => Ok(Self { instead_of: Some(port), ..Self::take(Wanted::Any, option)? }),
            (Err(error), _) if error.kind() == ErrorKind::AddrInUse => Err(PortError::Taken { port: number, option }),
            (Err(source), _) => Err(PortError::Refused { port: number, option, source }),
        }
    }
}

fn listen(port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_asked_for_is_taken_or_named() {
        let mine = Port::take(Wanted::Any, "--port").unwrap();
        let port = mine.address.port();
        assert_ne!(port, 0);
        let error = Port::take(Wanted::This(port), "--port").unwrap_err();
        assert!(matches!(&error, PortError::Taken { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            format!("port {port} is taken by another program; choose another with --port PORT")
        );
    }

    #[test]
    fn a_usual_port_that_is_taken_is_replaced_and_that_is_said() {
        let mine = Port::take(Wanted::Any, "--port").unwrap();
        let taken = mine.address.port();
        let other = Port::take(Wanted::Rather(taken), "--port").unwrap();
        assert_eq!(other.instead_of, Some(taken));
        assert_ne!(other.address.port(), taken);
    }
}
