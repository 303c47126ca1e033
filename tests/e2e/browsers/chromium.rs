//! A real Chromium without a window, told what to do over two pipes by the DevTools protocol: JSON, each message ended by a NUL.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::{fs, thread};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::scene::Scene;
use super::{Browser, PATIENCE, must_have};

/// A running Chromium with one tab.
#[derive(Debug)]
pub(super) struct Chromium {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    calls: u64,
    /// The session of the tab, by which the protocol names it.
    tab: String,
    /// Those of workers, once it pretends.
    workers: Vec<String>,
    /// What it says of itself when it pretends.
    pretence: Value,
    complaints: PathBuf,
}

/// The program, if it is installed.
fn program() -> Option<&'static str> {
    ["chromium", "chromium-browser"].into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

/// What Chromium with a window calls itself. Without one it says that it has none.
pub(super) fn user_agent() -> String {
    let program = program().unwrap();
    let said = Command::new(program).arg("--version").stderr(Stdio::null()).output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let major = said.split_whitespace().find_map(|word| word.split_once('.')).map(|(major, _)| major.to_owned());
    let major = major.unwrap_or_else(|| panic!("no version in {said}"));
    format!("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.0.0 Safari/537.36")
}

impl Chromium {
    /// Starts it with the profile in that folder; none if it is not installed and need not be.
    pub(super) fn start(scene: &Scene, profile: &Path, more: &[&str]) -> Option<Self> {
        let program = must_have("chromium", program())?;
        let complaints = profile.with_extension("complaints");
        let mut command = Command::new("sh");
        // It reads from 3 and writes to 4.
        command.args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#, program]);
        command.args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-dev-shm-usage"]);
        command.args(["--disable-gpu", "--no-first-run", "--no-default-browser-check", "--password-store=basic"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        // A page that nobody looks at is not to be slowed down.
        command.args([
            "--disable-popup-blocking",
            "--disable-renderer-backgrounding",
            "--disable-background-timer-throttling",
        ]);
        command.args(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost", "--no-proxy-server"]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        command.arg(format!("--user-agent={}", user_agent()));
        command.arg(format!("--ignore-certificate-errors-spki-list={}", scene.key_digest));
        command
            .args(more)
            .env("HOME", profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&complaints).unwrap());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (send, messages) = channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|count| count > 0) {
                message.pop();
                if serde_json::from_slice(&message).is_ok_and(|value| send.send(value).is_err()) {
                    return;
                }
                message.clear();
            }
        });
        let mut chromium = Self {
            child,
            input,
            messages,
            calls: 0,
            tab: String::new(),
            workers: Vec::new(),
            pretence: Value::Null,
            complaints,
        };
        chromium.open_tab(&profile.join("downloads"));
        Some(chromium)
    }

    fn open_tab(&mut self, downloads: &Path) {
        let how = json!({ "behavior": "allow", "downloadPath": downloads });
        self.call("Browser.setDownloadBehavior", &how).unwrap();
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" })).unwrap();
        let attached = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", &attached).unwrap();
        attached["sessionId"].as_str().unwrap().clone_into(&mut self.tab);
    }

    /// Sends a command to the browser, or to a session of its; gives the number by which it is answered.
    fn send(&mut self, session: &str, method: &str, params: &Value) -> u64 {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if !session.is_empty() {
            message["sessionId"] = json!(session);
        }
        let sent = self.input.write_all(format!("{message}\0").as_bytes());
        sent.unwrap_or_else(|error| panic!("{method}: {error}\n{}", self.complaints()));
        self.calls
    }

    /// Has a command carried out; what the browser says against it is the error.
    fn call(&mut self, method: &str, params: &Value) -> Result<Value, String> {
        let whole = method.starts_with("Browser.") || self.tab.is_empty();
        let session = if whole { String::new() } else { self.tab.clone() };
        let call = self.send(&session, method, params);
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let answer = self.messages.recv_timeout(left);
            let mut answer = answer.unwrap_or_else(|error| panic!("{method}: {error}\n{}", self.complaints()));
            if answer["method"] == "Target.attachedToTarget" && !self.pretence.is_null() {
                self.attach(answer["params"]["sessionId"].as_str().unwrap());
            }
            if answer["id"] == call {
                return if answer["error"].is_null() {
                    Ok(answer["result"].take())
                } else {
                    Err(answer["error"].to_string())
                };
            }
        }
    }

    /// Pretends to be another device, or to have other languages; so do its workers, as those of the developer tools do.
    pub(super) fn pretend(&mut self, agent: Value) {
        let is_first = self.pretence.is_null();
        self.pretence = agent;
        if is_first {
            // From here on the browser tells of workers, and lets none begin before it was told what to pretend.
            let workers = json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true });
            self.call("Target.setAutoAttach", &workers).unwrap();
        }
        for session in [&self.tab].into_iter().chain(&self.workers).cloned().collect::<Vec<_>>() {
            self.send(&session, "Emulation.setUserAgentOverride", &self.pretence.clone());
        }
        // What was sent before this is done before it.
        self.call("Runtime.evaluate", &json!({ "expression": "0" })).unwrap();
    }

    /// A worker begins.
    fn attach(&mut self, session: &str) {
        let pretence = self.pretence.clone();
        self.send(session, "Emulation.setUserAgentOverride", &pretence);
        self.send(session, "Runtime.runIfWaitingForDebugger", &json!({}));
        self.workers.push(session.to_owned());
    }

    /// Puts a cookie of ours into the jar.
    pub(super) fn plant(&mut self, url: &str, name: &str, value: &str) {
        let cookie = json!({ "url": url, "name": name, "value": value, "path": "/", "secure": true, "httpOnly": true, "sameSite": "Lax" });
        let set = self.call("Network.setCookie", &cookie).unwrap();
        assert_eq!(set["success"], true, "{set}");
    }

    fn complaints(&self) -> String {
        fs::read_to_string(&self.complaints).unwrap_or_default()
    }
}

impl Browser for Chromium {
    fn go(&mut self, url: &str) {
        let went = self.call("Page.navigate", &json!({ "url": url })).unwrap();
        assert!(went["errorText"].is_null(), "{url}: {went}");
        self.wait_for("document.readyState === 'complete'");
    }

    fn try_run(&mut self, script: &str) -> Result<Value, String> {
        let how = json!({ "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let mut done = self.call("Runtime.evaluate", &how)?;
        if done["exceptionDetails"].is_null() { Ok(done["result"]["value"].take()) } else { Err(done.to_string()) }
    }

    fn cookie(&mut self, name: &str) -> Option<String> {
        let all = self.call("Storage.getCookies", &json!({})).unwrap();
        let found = all["cookies"].as_array().unwrap().iter().find(|cookie| cookie["name"] == name)?;
        found["value"].as_str().map(str::to_owned)
    }

    fn close(&mut self) {
        drop(self.call("Browser.close", &json!({})));
        super::wait_for_end(&mut self.child, "chromium");
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
