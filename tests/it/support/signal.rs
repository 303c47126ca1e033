//! Signals for programs that a test has started.

use std::process::{Child, Command};

/// Sends a signal (`TERM`, `HUP`), as an operator would. A shell has `kill` built in everywhere, where a program of that name
/// may be missing; and sending one from here would need unsafe code.
#[track_caller]
pub(crate) fn send(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(status.success(), "it was gone already");
}
