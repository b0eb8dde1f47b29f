//! A real mosquitto.

use std::path::Path;
use std::time::SystemTime;

use tempfile::TempDir;

use super::wait::block_until;
use super::{Process, free_port, installed, server};

/// A running mosquitto with persistence; killed when dropped.
pub struct Mosquitto {
    process: Process,
    dir: TempDir,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Mosquitto {
    /// Starts one with these additional configuration lines, in which `DIR` is its directory; an empty file `nobody`
    /// exists there. `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(lines: &str) -> Option<Mosquitto> {
        if !installed("mosquitto", "-h") {
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        // Without `user root` it drops root's rights, and with them access to its directory.
        let config = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n\
             persistence_location DIR/\nmax_queued_messages 0\n{lines}\n"
        );
        let config = config.replace("DIR", &dir.path().display().to_string());
        std::fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        std::fs::write(dir.path().join("nobody"), "").unwrap();
        let mut broker = Mosquitto { process: spawn(dir.path()), dir, port };
        broker.wait_ready();
        Some(broker)
    }

    fn wait_ready(&mut self) {
        self.process.wait_listening("mosquitto", self.port);
    }

    /// Its directory, removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// SIGKILL: what it has not saved is lost.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, at which it saves its sessions; waits for its end.
    ///
    /// # Panics
    /// If it has already ended.
    pub fn terminate(&mut self) {
        self.process.signal("TERM");
        self.process.0.wait().unwrap();
    }

    /// Starts it again on the same port, with what it has saved.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.process = spawn(self.dir.path());
        self.wait_ready();
    }

    /// Makes it save what it has.
    ///
    /// # Panics
    /// If it does not.
    pub fn save(&self) {
        let before = self.saved();
        self.process.signal("USR1");
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

fn spawn(dir: &Path) -> Process {
    server("mosquitto", &dir.join("mosquitto.conf")).unwrap()
}
