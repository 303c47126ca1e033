//! The load: `wrk` with one thread and 64 kept connections, and the few requests that are made by hand.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::until;

/// What `wrk` is told. Every request is put together before the clock runs; the last line is for us to read.
const SCRIPT: &str = r#"
local requests, at = {}, 0
function init(args)
  for cookie in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("GET", "/", {
      ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
      ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
      ["Accept-Language"] = "en-GB,en;q=0.5",
      ["Cookie"] = cookie,
    })
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("SCORE %d %d %d %d %d %d\n", summary.requests, summary.duration, lost,
    summary.errors.status, latency:percentile(50), latency:percentile(99)))
end
"#;

/// Connections that are kept busy.
const CONNECTIONS: u32 = 64;

/// A load that can be put on one address.
pub(crate) struct Load {
    address: SocketAddr,
    script: PathBuf,
    cookies: PathBuf,
}

/// What one run of the load gave.
pub(crate) struct Score {
    pub(crate) requests: u64,
    pub(crate) duration: Duration,
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
}

impl Load {
    pub(crate) fn new(scratch: &Path, address: SocketAddr, cookies: &[String]) -> Self {
        let script = scratch.join("load.lua");
        let file = scratch.join(format!("cookies-{}.txt", address.port()));
        fs::write(&script, SCRIPT).unwrap();
        fs::write(&file, cookies.join("\n")).unwrap();
        Self { address, script, cookies: file }
    }

    /// Runs it. A request that is not answered, or with an error, spoils the whole measurement.
    pub(crate) fn run(&self, length: Duration) -> Score {
        let mut command = Command::new("wrk");
        command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{}s", length.as_secs()), "-s"]);
        command.arg(&self.script).arg(format!("http://{}/", self.address)).arg("--").arg(&self.cookies);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        if until(length + Duration::from_secs(20), || child.try_wait().unwrap()).is_none() {
            child.kill().unwrap();
            panic!("wrk did not end");
        }
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        Score::parse(&text)
    }
}

impl Score {
    fn parse(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.strip_prefix("SCORE ")).unwrap_or_else(|| panic!("wrk: {text}"));
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [requests, micros, lost, refused, median, p99] = numbers[..] else { panic!("wrk: {text}") };
        assert!(
            lost == 0 && refused == 0,
            "{lost} requests were lost and {refused} refused, so the figures mean nothing"
        );
        assert!(requests > 0, "nothing was answered");
        let micros = [micros, median, p99].map(Duration::from_micros);
        Self { requests, duration: micros[0], median: micros[1], p99: micros[2] }
    }
}

/// One request by hand, on a connection of its own. Gives head and body of the answer as they came.
pub(crate) fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut text = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer but {answer:?}"));
    (head.to_owned(), body.to_owned())
}
