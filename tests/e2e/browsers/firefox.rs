//! A real Firefox without a window, told what to do over a socket by Marionette: JSON, each message with its length before it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Browser, PATIENCE, must_have};

/// What a profile begins with.
const PREFERENCES: &[(&str, &str)] = &[
    ("marionette.port", "0"),
    // It asks nobody but the site.
    ("network.proxy.type", "1"),
    ("network.proxy.http", "\"127.0.0.1\""),
    ("network.proxy.http_port", "9"),
    ("network.proxy.ssl", "\"127.0.0.1\""),
    ("network.proxy.ssl_port", "9"),
    ("network.proxy.no_proxies_on", "\"localhost\""),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("services.settings.server", "\"data:,\""),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("toolkit.telemetry.reportingpolicy.firstRun", "false"),
    ("browser.aboutConfig.showWarning", "false"),
    ("browser.shell.checkDefaultBrowser", "false"),
    ("browser.download.folderList", "2"),
    ("browser.helperApps.neverAsk.saveToDisk", "\"application/octet-stream\""),
    ("media.autoplay.default", "0"),
    ("dom.disable_open_during_load", "false"),
    ("intl.accept_languages", "\"de-DE, de, en\""),
];

/// A running Firefox.
#[derive(Debug)]
pub(super) struct Firefox {
    child: Child,
    stream: BufReader<TcpStream>,
    calls: u64,
    complaints: PathBuf,
}

/// The program, if it is installed.
fn program() -> Option<&'static str> {
    ["firefox-esr", "firefox"].into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

impl Firefox {
    /// Starts it with the profile in that folder and these preferences besides; none if it is not installed and need not be.
    pub(super) fn start(profile: &Path, more: &[(&str, &str)]) -> Option<Self> {
        let program = must_have("firefox-esr", program())?;
        let mut preferences = String::new();
        let downloads = format!("{:?}", profile.join("downloads"));
        for (name, value) in PREFERENCES.iter().chain(&[("browser.download.dir", downloads.as_str())]).chain(more) {
            writeln!(preferences, "user_pref(\"{name}\", {value});").unwrap();
        }
        fs::write(profile.join("user.js"), preferences).unwrap();
        // Where it listens it writes down; what another start wrote is not to be taken for that.
        let place = profile.join("MarionetteActivePort");
        drop(fs::remove_file(&place));
        let complaints = profile.with_extension("complaints");
        let mut command = Command::new(program);
        command
            .args(["--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile"])
            .arg(profile);
        command.env("HOME", profile).env("MOZ_HEADLESS", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&complaints).unwrap());
        let child = command.spawn().unwrap();
        let stream = connect(&place, &complaints);
        let mut firefox = Self { child, stream, calls: 0, complaints };
        firefox.read();
        let wanted = json!({ "acceptInsecureCerts": true, "timeouts": { "script": PATIENCE.as_millis() } });
        firefox.call("WebDriver:NewSession", &wanted).unwrap();
        Some(firefox)
    }

    fn call(&mut self, command: &str, params: &Value) -> Result<Value, String> {
        self.calls += 1;
        let message = json!([0, self.calls, command, params]).to_string();
        let sent = self.stream.get_mut().write_all(format!("{}:{message}", message.len()).as_bytes());
        sent.unwrap_or_else(|error| panic!("{command}: {error}\n{}", self.complaints()));
        let mut answer = self.read();
        assert_eq!(answer[1], self.calls, "{answer}");
        if answer[2].is_null() { Ok(answer[3].take()) } else { Err(answer[2].to_string()) }
    }

    fn read(&mut self) -> Value {
        let mut length = Vec::new();
        self.stream.read_until(b':', &mut length).unwrap();
        let length = std::str::from_utf8(&length).unwrap().trim_end_matches(':');
        let length = length.parse().unwrap_or_else(|error| panic!("{error} in {length}: {}", self.complaints()));
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message).unwrap();
        serde_json::from_slice(&message).unwrap()
    }

    /// Changes a preference while it runs, as its user does in the settings; none puts it back.
    pub(super) fn prefer(&mut self, name: &str, value: Option<&str>) {
        self.call("Marionette:SetContext", &json!({ "value": "chrome" })).unwrap();
        let script = match value {
            Some(value) => format!("Services.prefs.setStringPref('{name}', '{value}')"),
            None => format!("Services.prefs.clearUserPref('{name}')"),
        };
        self.call("WebDriver:ExecuteScript", &json!({ "script": script, "args": [] })).unwrap();
        self.call("Marionette:SetContext", &json!({ "value": "content" })).unwrap();
    }

    fn complaints(&self) -> String {
        fs::read_to_string(&self.complaints).unwrap_or_default()
    }
}

/// Waits until it says where it listens, and for the connection.
fn connect(place: &Path, complaints: &Path) -> BufReader<TcpStream> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let port = fs::read_to_string(place).ok().and_then(|port| port.trim().parse::<u16>().ok());
        if let Some(stream) = port.and_then(|port| TcpStream::connect(("127.0.0.1", port)).ok()) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            return BufReader::new(stream);
        }
        let told = || fs::read_to_string(complaints).unwrap_or_default();
        assert!(Instant::now() < end, "firefox does not listen: {}", told());
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Browser for Firefox {
    fn go(&mut self, url: &str) {
        self.call("WebDriver:Navigate", &json!({ "url": url })).unwrap();
    }

    fn try_run(&mut self, script: &str) -> Result<Value, String> {
        let how = json!({ "script": format!("return ({script})"), "args": [] });
        Ok(self.call("WebDriver:ExecuteScript", &how)?["value"].take())
    }

    fn cookie(&mut self, name: &str) -> Option<String> {
        let all = self.call("WebDriver:GetCookies", &json!({})).unwrap();
        let found = all.as_array().unwrap().iter().find(|cookie| cookie["name"] == name)?;
        found["value"].as_str().map(str::to_owned)
    }

    fn close(&mut self) {
        self.call("Marionette:Quit", &json!({ "flags": ["eAttemptQuit"] })).unwrap();
        super::wait_for_end(&mut self.child, "firefox");
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
