//! Child processes of tests: their output is kept for failure messages, waits are for what they say, and none outlives its
//! guard. Deadlines are those of a slow and loaded machine: they only end what would never end.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// How often what cannot be waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of output kept.
const LINES_MAX: usize = 20_000;

/// A child that is killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    open: AtomicUsize,
    news: Notify,
}

impl Output {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(self: &Arc<Output>, from: impl Read + Send + 'static) {
        let output = Arc::clone(self);
        output.open.fetch_add(1, Ordering::AcqRel);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(from);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                let mut lines = output.lines();
                if lines.len() < LINES_MAX {
                    lines.push(text);
                }
                drop(lines);
                output.news.notify_waiters();
            }
            output.open.fetch_sub(1, Ordering::AcqRel);
            output.news.notify_waiters();
        });
    }
}

impl Process {
    /// Starts `command` with its output collected and nothing to read.
    pub fn spawn(name: &str, mut command: Command) -> Process {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let output = Arc::new(Output::default());
        if let Some(stdout) = child.stdout.take() {
            output.read(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.read(stderr);
        }
        Process { name: name.to_owned(), child, output }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it said so far, standard output and error in the order in which they came.
    pub fn output(&self) -> String {
        self.output.lines().join("\n")
    }

    /// All it ever says: waits until it has closed its output, which a process that ended has.
    pub async fn all_output(&mut self) -> String {
        let output = Arc::clone(&self.output);
        let closed = async || (output.open.load(Ordering::Acquire) == 0).then_some(());
        eventually("the process closes its output", closed).await;
        self.output()
    }

    /// The first line that holds `needle`, from the lines after the first `skip`; waits for it.
    ///
    /// # Errors
    /// The process ended without saying it; the text is its output.
    pub async fn line_after(&mut self, skip: usize, needle: &str) -> Result<String, String> {
        let until = Instant::now() + DEADLINE;
        loop {
            let output = Arc::clone(&self.output);
            let news = output.news.notified();
            let mut news = std::pin::pin!(news);
            news.as_mut().enable();
            // Whether it ended is asked first: what it said before that is then all there.
            let ended = self.ended();
            let found = self.output.lines().iter().skip(skip).find(|line| line.contains(needle)).cloned();
            if let Some(line) = found {
                return Ok(line);
            }
            if let Some(status) = ended {
                return Err(format!("{} ended ({status}) without `{needle}`:\n{}", self.name, self.output()));
            }
            assert!(Instant::now() < until, "{} never said `{needle}`:\n{}", self.name, self.output());
            // Output wakes at once; the end of a silent process is noticed at the next look.
            let _ = timeout(Duration::from_millis(200), news).await;
        }
    }

    /// [`Process::line_after`] from the first line on.
    ///
    /// # Errors
    /// As there.
    pub async fn line(&mut self, needle: &str) -> Result<String, String> {
        self.line_after(0, needle).await
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it ends by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        self.exit_within(DEADLINE).await
    }

    /// The same with a deadline of its own.
    pub async fn exit_within(&mut self, deadline: Duration) -> ExitStatus {
        let until = Instant::now() + deadline;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < until, "{} never ended:\n{}", self.name, self.output());
            sleep(LOOK).await;
        }
    }

    /// Sends a signal: `TERM`, `STOP`, `CONT`, `INT`, `QUIT`.
    pub fn signal(&self, name: &str) {
        signal(&[self.id()], name);
    }

    /// `kill -9`, and waits for it to be gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it in an orderly way: `name` is sent and the end awaited, whatever its status.
    pub fn end_by(&mut self, name: &str) {
        if self.ended().is_none() {
            self.signal(name);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to processes that a test started. Those that are gone are passed over.
pub fn signal(ids: &[u32], name: &str) {
    for id in ids {
        let sent =
            Command::new("sh").args(["-c", &format!("kill -s {name} {id}")]).stderr(Stdio::null()).status();
        assert!(sent.is_ok(), "cannot run sh to send {name}");
    }
}

/// Stops processes, and returns when every thread of theirs stands still.
pub fn pause(ids: &[u32]) {
    signal(ids, "STOP");
    for id in ids {
        let threads = || std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        let is_stopped = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
        };
        while !threads().all(is_stopped) {
            std::thread::yield_now();
        }
    }
}

/// The children of process `id`, by `/proc`.
pub fn children(id: u32) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let parent_of = |id: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // After the command in brackets: state, then the parent's id.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|child| parent_of(*child) == Some(id))
        .collect()
}

/// Calls `look` until it has something; panics with `what` when it never has.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "never happened: {what}");
        sleep(LOOK).await;
    }
}

/// A port of 127.0.0.1 that is free now, from below the range that the system gives to outgoing connections, so that nobody
/// takes it while its server restarts.
pub fn free_port() -> u16 {
    let mut random = rand::rng();
    for _ in 0..1_000 {
        let port = random.random_range(15_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from 15000 to 32000")
}

/// The first of `names` that exists in `PATH` or in the folders where Debian keeps servers.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The `homeostat` binary of this build: beside the folder that holds the test's own. `tests/run` builds it first.
pub fn homeostat_binary() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let binary = own.ancestors().skip(1).map(|folder| folder.join("homeostat")).find(|file| is_program(file));
    binary.unwrap_or_else(|| panic!("no `homeostat` beside {} (run `cargo build`)", own.display()))
}

fn is_program(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.mode() & 0o111 != 0)
}
