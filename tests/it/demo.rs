//! `portcullis demo`, as a person or a script starts it.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

use crate::support::signal;
use crate::support::wire::Wire;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("demo").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Ends the program if the test fails.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn every_attack_works_without_the_guard_and_fails_with_it() {
    let Output { status, stdout, stderr } = demo(&["--once"]).output().unwrap();
    let out = text(&stdout);
    assert_eq!((status.code(), text(&stderr)), (Some(0), ""), "{out}");
    assert!(!out.contains('\x1b'), "a pipe gets no colours");
    let table: Vec<&str> = out.lines().skip_while(|line| !line.starts_with("---")).skip(1).collect();
    let table = table.split(|line| line.is_empty()).next().unwrap();
    let (visit, attacks) = table.split_first().unwrap();
    assert_eq!(visit.split_whitespace().collect::<Vec<_>>(), ["ordinary", "visit", "works", "works"]);
    assert!(attacks.len() >= 9, "{attacks:?}");
    for attack in attacks {
        assert!(attack.split_whitespace().rev().take(2).eq(["stopped", "WORKED"]), "{attack}");
    }
    for told in ["session.rotated_id_reuse", "session.tag_fork", "session.expired.idle", "session.expired.absolute"] {
        assert!(out.contains(told), "{told} is missing:\n{out}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for option in ["--port", "--app-port"] {
        let Output { status, stdout, stderr } = demo(&["--once", option, &port]).output().unwrap();
        assert_eq!((status.code(), text(&stdout)), (Some(1), ""));
        let expected = format!("port {port} is taken by another program; choose another with {option} PORT");
        assert!(text(&stderr).contains(&expected), "{}", text(&stderr));
    }
}

#[test]
fn after_the_play_it_serves_both_until_it_is_told_to_end() {
    let mut started = Started(demo(&["--port", "0", "--app-port", "0"]).spawn().unwrap());
    let mut lines = BufReader::new(started.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut address = |label: &str| -> SocketAddr {
        let line = lines.by_ref().find(|line| line.trim_start().starts_with(label)).unwrap();
        let (_, url) = line.split_once("http://").unwrap();
        url.replace("localhost", "127.0.0.1").parse().unwrap()
    };
    let (without, with) = (address("without the guard"), address("with the guard"));
    let password = lines.find(|line| line.contains("log in as alice")).unwrap();
    let form = format!("user=alice&password={}", password.split_whitespace().last().unwrap());
    for (site, cookie) in [(without, "sid="), (with, "portcullis=")] {
        let mut wire = Wire::connect(site);
        wire.send(format!(
            "POST /login HTTP/1.1\r\nHost: {site}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        ));
        let reply = wire.reply();
        assert_eq!((reply.status, reply.header("location")), (303, Some("/account")));
        assert!(reply.header("set-cookie").unwrap().starts_with(cookie), "{reply:?}");
        wire.finish();
    }
    signal::send(&started.0, "TERM");
    let mut rest = String::new();
    started.0.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!((started.0.wait().unwrap().code(), rest.as_str()), (Some(0), ""));
}
