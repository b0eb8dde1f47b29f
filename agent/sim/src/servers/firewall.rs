//! A network that swallows packets, by rules of the kernel (`apt install iptables`).

use std::process::Command;

use super::{installed, skip};

/// The options of every call: wait for others who change rules.
const WAIT: &str = "-w";
/// Packets to and from a port.
const WAYS: [&str; 2] = ["--dport", "--sport"];

/// While it is there, no packet to or from a port of this machine arrives, and nobody is told.
pub struct Swallowed {
    port: u16,
}

impl Swallowed {
    /// Begins; `None` if this machine does not let the test do that.
    ///
    /// # Panics
    /// As [`skip`].
    pub fn begin(port: u16) -> Option<Swallowed> {
        if !installed("iptables", "--version") {
            return None;
        }
        let swallowed = Swallowed { port };
        if WAYS.iter().all(|way| rule("-I", way, port)) {
            return Some(swallowed);
        }
        skip("iptables does not work here: it needs root, and a kernel that has it");
        None
    }
}

impl Drop for Swallowed {
    fn drop(&mut self) {
        for way in WAYS {
            rule("-D", way, self.port);
        }
    }
}

fn rule(change: &str, way: &str, port: u16) -> bool {
    let mut command = Command::new("iptables");
    command.args([WAIT, change, "INPUT", "-i", "lo", "-p", "tcp", way, &port.to_string(), "-j", "DROP"]);
    let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
    output.is_ok_and(|output| output.status.success())
}
