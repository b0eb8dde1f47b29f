//! A real mosquitto. Tests that need it are skipped aloud where it is not installed; with
//! `FIELDLOG_TEST_REQUIRE_SERVERS=1` they fail instead.

#![allow(clippy::unwrap_used)]

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use tempfile::TempDir;

use crate::process::{free_port, signal};
use crate::wait::block_until;

/// A running mosquitto with persistence; killed when dropped.
pub struct Mosquitto {
    child: Child,
    dir: TempDir,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

/// Says that a test cannot run here, or fails where it must.
///
/// # Panics
/// With `FIELDLOG_TEST_REQUIRE_SERVERS=1`.
pub fn skip(why: &str) {
    let required = std::env::var_os("FIELDLOG_TEST_REQUIRE_SERVERS").is_some_and(|value| value == "1");
    assert!(!required, "FIELDLOG_TEST_REQUIRE_SERVERS=1, but {why}");
    eprintln!("SKIPPED: {why}");
}

impl Mosquitto {
    /// Starts one with these lines more in its configuration; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(lines: &str) -> Option<Mosquitto> {
        let found = Command::new("mosquitto").arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            skip("mosquitto is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        // Without `user root` it gives up root's rights, and with them its directory.
        let config = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n\
             persistence_location {}/\nmax_queued_messages 0\n{lines}\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Mosquitto { child: spawn(&dir), dir, port };
        broker.wait_ready();
        Some(broker)
    }

    fn wait_ready(&mut self) {
        block_until("mosquitto", || {
            assert!(self.child.try_wait().unwrap().is_none(), "mosquitto ends at once");
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    /// SIGKILL: what it has not saved is lost.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, with what it has saved.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.child = spawn(&self.dir);
        self.wait_ready();
    }

    /// Makes it save what it has.
    ///
    /// # Panics
    /// If it does not.
    pub fn save(&self) {
        let before = self.saved();
        signal(self.child.id(), "USR1");
        block_until("mosquitto's database", || (self.saved() != before).then_some(()));
    }

    /// SIGKILL right after its state was saved, then a new start on the same port. What it acknowledges between the two
    /// is lost, as with any broker that saves later than it acknowledges; so nobody should publish meanwhile.
    ///
    /// # Panics
    /// As [`Mosquitto::save`] and [`Mosquitto::restart`].
    pub fn save_kill_restart(&mut self) {
        self.save();
        self.kill();
        self.restart();
    }

    /// Modification time of its database; it is written beside the old one and renamed.
    fn saved(&self) -> Option<SystemTime> {
        std::fs::metadata(self.dir.path().join("mosquitto.db")).and_then(|file| file.modified()).ok()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &TempDir) -> Child {
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(dir.path().join("mosquitto.conf"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
