//! Processes that never outlive this one.
//!
//! There is no signal handler here. Whatever has to be undone is given to a [`Guard`], a shell that waits for the end of a
//! pipe which only this process holds: the pipe ends when the guard is dropped, and it ends just so when this process does,
//! by Ctrl-C, by a panic or by `kill -9`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How often a state that sends no event is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Asks the process group `$2` to end with signal `$1`, and makes it after five seconds.
const END_GROUP: &str = r#"
    kill -s "$1" -- "-$2" || exit 0
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
        sleep 0.2
        kill -s 0 -- "-$2" || exit 0
    done
    kill -s KILL -- "-$2"
"#;

/// A shell script that runs when this value is dropped or this process ends, however it ends.
pub(crate) struct Guard(Child);

impl Guard {
    /// Takes the script, and what it finds in `$1`, `$2`, …
    pub(crate) fn new<A: AsRef<OsStr>>(script: &str, arguments: impl IntoIterator<Item = A>) -> anyhow::Result<Self> {
        Command::new("sh")
            .args(["-c", &format!("trap '' HUP INT TERM; cat >/dev/null; {script}"), "guard"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map(Self)
            .context("no `sh` on this machine")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // There is nobody left to tell of a failure.
        let _ = self.0.wait();
    }
}

/// A directory that is removed when this value is dropped or this process ends.
pub(crate) struct Scratch {
    path: PathBuf,
    _guard: Guard,
}

impl Scratch {
    /// Makes an empty directory at `path`, removing what was there.
    pub(crate) fn new(path: PathBuf) -> anyhow::Result<Self> {
        remove_directory(&path)?;
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { _guard: Guard::new(r#"rm -rf -- "$1""#, [&path])?, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes a directory, if there is one.
pub(crate) fn remove_directory(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A process with a group of its own and a log file, ended with everything that it has started.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    guard: Option<Guard>,
}

impl Process {
    /// Starts `command`, with nothing to read and both of its outputs in the file `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        Self::start_ended_by("TERM", name, command, log)
    }

    /// The same for a program that ends in good order on another signal than TERM.
    pub(crate) fn start_ended_by(signal: &str, name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}: {} is not there", command.get_program().display()))?;
        let guard = Guard::new(END_GROUP, [signal, &child.id().to_string()])?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), guard: Some(guard) })
    }

    /// Waits until a line of the log has `mark` in it, and returns what follows it there.
    pub(crate) fn wait_for(&mut self, mark: &str, limit: Duration) -> anyhow::Result<String> {
        let log = self.log.clone();
        self.wait_until(limit, &format!("print `{mark}`"), || {
            let text = String::from_utf8_lossy(&fs::read(&log).ok()?).into_owned();
            // Only whole lines: the last one may still be on its way.
            text.split_inclusive('\n')
                .filter_map(|line| line.strip_suffix('\n'))
                .find_map(|line| Some(line.split_once(mark)?.1.to_owned()))
        })
    }

    /// Waits until `ready` has an answer; an error if the process ends first or the limit passes.
    pub(crate) fn wait_until<T>(
        &mut self,
        limit: Duration,
        what: &str,
        mut ready: impl FnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        loop {
            if let Some(answer) = ready() {
                return Ok(answer);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it would {what}\n{}", self.name, self.tail());
            }
            if start.elapsed() > limit {
                bail!("{} did not {what} within {} s\n{}", self.name, limit.as_secs(), self.tail());
            }
            thread::sleep(POLL);
        }
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends the process a signal, such as `TERM`.
    pub(crate) fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let id = self.id().to_string();
        let status = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "signal", signal, &id]).status()?;
        if !status.success() {
            bail!("{} cannot be sent {signal}", self.name);
        }
        Ok(())
    }

    /// Waits for the end of the process; `None` if it has not ended by itself within the limit.
    pub(crate) fn wait(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(POLL);
        }
        Ok(None)
    }

    /// The end of the log, indented, with where to find the rest.
    pub(crate) fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The pipe is closed first; then the process is waited for, so that the guard does not wait for a zombie.
        if let Some(guard) = &mut self.guard {
            drop(guard.0.stdin.take());
        }
        let _ = self.child.wait();
        drop(self.guard.take());
    }
}

/// The last lines of a log file, indented, with where to find the rest.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 30;
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES)..];
    let mut out = String::new();
    for line in shown {
        out.push_str("    | ");
        out.push_str(line);
        out.push('\n');
    }
    format!("{out}    all of it: {}", log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> Scratch {
        Scratch::new(std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()))).unwrap()
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn lives(pid: &str) -> bool {
        // A zombie is dead; only its parent has not noticed.
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn until(condition: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if condition() {
                return true;
            }
            thread::sleep(POLL);
        }
        false
    }

    #[test]
    fn a_dropped_process_takes_its_own_children_with_it() {
        let scratch = scratch("children");
        let mut process =
            Process::start("parent", &mut shell("sleep 600 & echo child $!; wait"), &scratch.path().join("log"))
                .unwrap();
        let pid = process.wait_for("child ", Duration::from_secs(10)).unwrap();
        assert!(lives(&pid));
        drop(process);
        assert!(until(|| !lives(&pid)));
    }

    #[test]
    fn a_guard_acts_when_its_owner_is_killed() {
        let scratch = scratch("killed");
        let marker = scratch.path().join("marker");
        let guard = Guard::new(r#"touch "$1""#, [&marker]).unwrap();
        // What the kernel does with the descriptors of a process that was killed.
        let mut guard = guard;
        drop(guard.0.stdin.take());
        assert!(until(|| marker.exists()));
    }

    #[test]
    fn a_process_that_ends_too_early_is_reported_with_its_last_words() {
        let scratch = scratch("early");
        let log = scratch.path().join("log");
        let mut process = Process::start("server", &mut shell("echo no such port; exit 3"), &log).unwrap();
        let error = process.wait_for("listening", Duration::from_secs(10)).unwrap_err().to_string();
        assert!(error.contains("server ended") && error.contains("| no such port"), "{error}");
    }

    #[test]
    fn a_line_counts_only_once_it_is_whole() {
        let scratch = scratch("line");
        let mut server = shell("printf 'listening on 12'; sleep 0.3; echo 34; sleep 600");
        let mut process = Process::start("server", &mut server, &scratch.path().join("log")).unwrap();
        assert_eq!(process.wait_for("listening on ", Duration::from_secs(10)).unwrap(), "1234");
    }

    #[test]
    fn a_process_that_goes_on_is_not_waited_for_past_the_limit() {
        let scratch = scratch("limit");
        let mut process = Process::start("sleeper", &mut shell("sleep 600"), &scratch.path().join("log")).unwrap();
        assert!(process.wait(Duration::from_millis(100)).unwrap().is_none());
    }
}
