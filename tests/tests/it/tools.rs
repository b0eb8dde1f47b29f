//! The subcommands for the log itself: they export it, copy it, repair it and fold it again.

use std::path::{Path, PathBuf};

use fieldlog::config::Config;
use fieldlog::log::FILE_NAME;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::process;
use tempfile::TempDir;

use crate::corruption::content::{Original, original};

mod backup;
mod export;
mod history;
mod import;
mod json;
mod repair;
mod replay;

/// How a call ended: exit code, stdout, stderr.
type Called = (i32, String, String);

fn call(arguments: &[&str]) -> Called {
    process::call(arguments)
}

/// The same beside a runtime, which the agent in this process needs.
async fn call_beside(arguments: &[&str]) -> Called {
    let all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let called =
        tokio::task::spawn_blocking(move || call(&all.iter().map(String::as_str).collect::<Vec<_>>()));
    called.await.unwrap()
}

fn assert_says(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
}

/// A data directory with a log that has every kind of content.
struct Place {
    dir: TempDir,
}

impl Place {
    fn of(original: &Original) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(place.data().join("snapshots")).unwrap();
        std::fs::write(place.log(), &original.bytes).unwrap();
        for snapshot in std::fs::read_dir(original.snapshots.dir()).unwrap() {
            let path = snapshot.unwrap().path();
            std::fs::copy(&path, place.data().join("snapshots").join(path.file_name().unwrap())).unwrap();
        }
        place
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.data().join(FILE_NAME)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("http.sock")
    }

    /// A configuration file with this data directory.
    fn config(&self) -> PathBuf {
        self.config_with("")
    }

    fn config_with(&self, more: &str) -> PathBuf {
        let text = format!(
            "gateway_id = \"site\"\ndata_dir = {:?}\n[retention]\nbytes_max = 0\n[http]\nlisten = \"127.0.0.1:0\"\n\
             unix_socket = {:?}\n{more}",
            self.data(),
            self.socket()
        );
        let path = self.dir.path().join("fieldlog.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn agent(&self) -> Agent {
        Agent::start(Config::load(&self.config()).unwrap().config).await
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
