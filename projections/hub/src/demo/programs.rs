//! Programs that the demo finds, starts and stops.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// Where servers are that are not in everybody's `PATH`.
const BESIDE_PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/usr/sbin"];
/// Users that PostgreSQL can be run as by root.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// How long a program may take to stop.
const STOP_GRACE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much is shown of what a program has said.
const SAID_LINES: usize = 3;

/// The first of these programs that is installed: in `PATH`, or beside it.
pub(super) fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).chain(BESIDE_PATH.map(PathBuf::from)).collect();
    names.iter().find_map(|name| dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file()))
}

/// Who runs what root may not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) user: u32,
    pub(super) group: u32,
}

impl Owner {
    /// `None` if this process may do it itself.
    pub(super) fn needed() -> Result<Option<Owner>, ProgramError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let id = |option: &str, user: &str| {
            let output = Command::new("id").args([option, user]).output().ok()?;
            String::from_utf8_lossy(&output.stdout).trim().parse().ok()
        };
        let known = |user: &&str| Some(Owner { user: id("-u", user)?, group: id("-g", user)? });
        USERS.iter().find_map(known).map(Some).ok_or(ProgramError::NoUser)
    }
}

/// A running program. It ends when it is dropped, and with this process.
pub(super) struct Child {
    name: String,
    log: PathBuf,
    process: Mutex<process::Child>,
    stop: Signal,
}

impl Child {
    /// Starts a program, whose output goes to a file.
    pub(super) fn start(
        name: &str,
        log: &Path,
        program: &Path,
        owner: Option<Owner>,
        arguments: impl FnOnce(&mut Command),
    ) -> Result<Child, ProgramError> {
        let mut command = surviving_nobody(program);
        arguments(&mut command);
        as_owner(&mut command, owner);
        let output = OpenOptions::new().create(true).append(true).open(log);
        let start = |output: File| {
            command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
            // Ctrl-C in a terminal is for this process, which stops the others in order.
            command.process_group(0).spawn()
        };
        let process = output.and_then(start).map_err(|source| ProgramError::Start {
            name: name.to_owned(),
            program: program.to_owned(),
            source,
        })?;
        Ok(Child { name: name.into(), log: log.into(), process: Mutex::new(process), stop: Signal::TERM })
    }

    /// It stops at this signal in place of SIGTERM.
    pub(super) fn stopping_at(mut self, stop: Signal) -> Child {
        self.stop = stop;
        self
    }

    /// Whether it still runs.
    pub(super) fn check(&self) -> Result<(), ProgramError> {
        match self.process().try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(source) => Err(ProgramError::Wait { name: self.name.clone(), source }),
        }
    }

    /// Waits until there is something, for as long as it runs.
    pub(super) async fn wait_for<T>(
        &self,
        mut find: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, ProgramError> {
        loop {
            if let Some(found) = find().await {
                return Ok(found);
            }
            self.check()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The number of its process.
    pub(super) fn id(&self) -> u32 {
        self.process().id()
    }

    /// Asks it to stop, and waits until it has.
    pub(super) async fn stop(self) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let begin = Instant::now();
        if self.check().is_ok()
            && let Some(id) = id
        {
            // It may have ended just now.
            let _ = kill_process(id, self.stop);
        }
        while self.check().is_ok() && begin.elapsed() < STOP_GRACE {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // Dropped, it is killed.
    }

    fn process(&self) -> std::sync::MutexGuard<'_, process::Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, status: ExitStatus) -> ProgramError {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.trim_end().lines().rev().take(SAID_LINES).collect();
        ProgramError::Ended {
            name: self.name.clone(),
            how: match (status.code(), status.signal()) {
                (Some(code), _) => format!("with exit code {code}"),
                (None, signal) => format!("by signal {}", signal.unwrap_or_default()),
            },
            log: self.log.clone(),
            said: lines.into_iter().rev().map(|line| format!("\n  {line}")).collect(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut process = self.process();
        // Has usually ended already.
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// Runs a program to its end.
pub(super) fn run(command: &mut Command, owner: Option<Owner>, name: &str) -> Result<(), String> {
    as_owner(command, owner);
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{name}: {}", said.trim())) }
}

/// A command that is ended when this process is, even by SIGKILL, if there is the tool for it (util-linux).
fn surviving_nobody(program: &Path) -> Command {
    match find(&["setpriv"]) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

fn as_owner(command: &mut Command, owner: Option<Owner>) {
    if let Some(Owner { user, group }) = owner {
        command.uid(user).gid(group);
    }
    // It has to be able to read where it is.
    command.current_dir("/");
}

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Root has nobody to run PostgreSQL.
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`: start the demo as another \
         user"
    )]
    NoUser,
    /// It cannot be prepared.
    #[error("{why}; {hint}")]
    Prepare {
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
    /// It cannot be started.
    #[error("{name} cannot be started ({}): {source}", program.display())]
    Start {
        /// Its name.
        name: String,
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be waited for.
    #[error("{name} cannot be waited for: {source}")]
    Wait {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It has ended.
    #[error("{name} has ended {how}; --fresh begins anew. The end of {}:{said}", log.display())]
    Ended {
        /// Its name.
        name: String,
        /// How.
        how: String,
        /// Where its output is.
        log: PathBuf,
        /// The end of that.
        said: String,
    },
}
