//! The one socket of the API: a unix socket nobody else can open, or a loopback port.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Address, CONNECTIONS_MAX, StartError};

/// How long accepting rests after the system ran out of descriptors or memory.
const REST: Duration = Duration::from_millis(50);

/// A socket that is ours.
#[derive(Debug)]
pub(super) struct Listener {
    address: Address,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a unix socket, removed when it is dropped, unless another guard has put its own there since.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
    owner: u32,
}

impl Listener {
    pub(super) fn bind(address: &Address) -> Result<Self, StartError> {
        let failed = |source| match io::Error::kind(&source) {
            io::ErrorKind::AddrInUse => StartError::Taken(address.clone()),
            _ => StartError::Listen { address: address.clone(), source },
        };
        match address {
            Address::Tcp(wanted) if !wanted.ip().is_loopback() => Err(StartError::NotLoopback(*wanted)),
            Address::Tcp(wanted) => {
                let (socket, taken) = bind_tcp(*wanted).map_err(failed)?;
                Ok(Self { address: Address::Tcp(taken), socket: Socket::Tcp(socket) })
            }
            Address::Unix(path) => {
                make_room(path, address)?;
                let (socket, file) = bind_unix(path).map_err(failed)?;
                Ok(Self { address: address.clone(), socket: Socket::Unix(socket, file) })
            }
        }
    }

    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// Makes it ready to accept; there must be a runtime.
    pub(super) fn register(self) -> io::Result<Accepting> {
        let socket = match self.socket {
            Socket::Tcp(socket) => Registered::Tcp(tokio::net::TcpListener::from_std(socket)?),
            Socket::Unix(socket, file) => Registered::Unix(tokio::net::UnixListener::from_std(socket)?, file),
        };
        Ok(Accepting { socket, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) })
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    let taken = socket.local_addr()?;
    Ok((socket, taken))
}

fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let socket = UnixListener::bind(path)?;
    // Between these two lines the file has the mode of the umask. Who slips in is refused when accepted: by his user id.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    let data = fs::symlink_metadata(path)?;
    Ok((socket, SocketFile { path: path.to_owned(), inode: data.ino(), owner: data.uid() }))
}

/// Removes the socket file of a guard that is gone. One that somebody answers at, and any other file, is left alone.
fn make_room(path: &Path, address: &Address) -> Result<(), StartError> {
    let failed = |source| StartError::Listen { address: address.clone(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(data) if !data.file_type().is_socket() => return Err(StartError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(StartError::Taken(address.clone())),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|data| data.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "the socket file of the admin API was not removed");
        }
    }
}

/// The socket while it accepts.
#[derive(Debug)]
pub(super) struct Accepting {
    socket: Registered,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
enum Registered {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, SocketFile),
}

/// A connection, and its place among those that may be open.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) place: OwnedSemaphorePermit,
}

/// Its two ends.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(tokio::net::TcpStream, IpAddr),
    Unix(tokio::net::UnixStream),
}

impl Accepting {
    /// The next connection of somebody who may ask. Nothing is lost when this is dropped.
    pub(super) async fn accept(&mut self) -> Accepted {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else {
                // Only a closed semaphore refuses, and nobody closes it.
                return std::future::pending().await;
            };
            match self.socket.accept().await {
                Ok(Some(stream)) => return Accepted { stream, place },
                Ok(None) => tracing::warn!("another user tried to use the admin API"),
                Err(error) => {
                    tracing::debug!(%error, "the admin API could not accept a connection");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}

impl Registered {
    /// None for one who must not ask.
    async fn accept(&self) -> io::Result<Option<Stream>> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok(peer.ip().is_loopback().then_some(Stream::Tcp(stream, peer.ip())))
            }
            Self::Unix(socket, file) => {
                let (stream, _) = socket.accept().await?;
                let user = stream.peer_cred()?.uid();
                Ok((user == file.owner || user == 0).then_some(Stream::Unix(stream)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(folder: &tempfile::TempDir) -> Address {
        Address::Unix(folder.path().join("made/admin.sock"))
    }

    fn path(address: &Address) -> &Path {
        match address {
            Address::Unix(path) => path,
            Address::Tcp(_) => panic!("no path"),
        }
    }

    #[test]
    fn the_socket_file_is_for_one_user_and_goes_with_the_guard() {
        let folder = tempfile::tempdir().unwrap();
        let address = unix(&folder);
        let listener = Listener::bind(&address).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path(&address)), 0o600);
        assert_eq!(mode(path(&address).parent().unwrap()), 0o700);
        assert!(matches!(Listener::bind(&address), Err(StartError::Taken(_))));
        drop(listener);
        assert!(!path(&address).exists());
    }

    #[test]
    fn only_a_socket_that_nobody_answers_at_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let address = unix(&folder);
        fs::create_dir(path(&address).parent().unwrap()).unwrap();
        // What a guard leaves that was killed.
        drop(UnixListener::bind(path(&address)).unwrap());
        assert!(path(&address).exists());
        drop(Listener::bind(&address).unwrap());
        fs::write(path(&address), "precious").unwrap();
        assert!(matches!(Listener::bind(&address), Err(StartError::NotASocket(_))));
        assert_eq!(fs::read(path(&address)).unwrap(), b"precious");
    }

    #[test]
    fn the_file_of_the_next_guard_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let address = unix(&folder);
        let first = Listener::bind(&address).unwrap();
        fs::remove_file(path(&address)).unwrap();
        // An inode is free again once its file is gone, so something else takes it first.
        fs::write(folder.path().join("made/other"), "").unwrap();
        let second = Listener::bind(&address).unwrap();
        drop(first);
        assert!(path(&address).exists());
        drop(second);
    }

    #[test]
    fn an_address_that_others_reach_is_refused() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:127.0.0.1]:0"] {
            let refused = Listener::bind(&Address::Tcp(address.parse().unwrap())).unwrap_err();
            assert!(matches!(refused, StartError::NotLoopback(_)), "{address}: {refused}");
        }
        let held = Listener::bind(&Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let refused = Listener::bind(held.address()).unwrap_err();
        assert!(matches!(refused, StartError::Taken(_)), "{refused}");
    }
}
