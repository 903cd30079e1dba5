//! Starts a trainer and reads its pipes, each with a bound.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::Path,
    process::Stdio,
    sync::{Arc, LazyLock, Mutex, PoisonError, mpsc},
    thread,
};

use autoswarm_protocol::event::MAX_LINE_BYTES;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStderr, ChildStdout, Command},
    sync::oneshot,
};

use super::{
    pre_exec::{self, Habits},
    tree::MARK,
};

/// Most bytes of standard error that are kept, from its end.
pub(super) const MAX_ERROR_BYTES: usize = 64 * 1024;

/// How often a waiting thread of a trainer spins before it sleeps. Long spinning is for machines without
/// other work. A trainer runs at the lowest priority: where its threads only spin, each of its many short
/// loops waits for a thread that the kernel does not run.
// measured 2026-11, two threads, (2,64,128,16,256) and (4,256,256,16,1024), tokens/s: quiet 236,202 and
// 13,273, libgomp's default 226,893 and 13,791; at nice 19 beside one busy core 107,929 and 7,455, default
// 3,368 and 2,566
const SPIN_COUNT: &str = "1000";
/// The variable that tells libgomp the spin count.
const SPIN_VARIABLE: &str = "GOMP_SPINCOUNT";

/// Variables by which an operator decides how threads wait; where one is set, the node sets nothing.
const WAIT_VARIABLES: [&str; 2] = [SPIN_VARIABLE, "OMP_WAIT_POLICY"];

/// Most starts that wait for the launcher; a node has a few dozen slots at most.
const LAUNCH_QUEUE: usize = 64;

/// A program with everything that its process needs.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [OsString],
    pub(super) threads: u16,
    pub(super) habits: Habits,
    pub(super) mark: &'a str,
}

/// Starts a program. Its standard input is a pipe that stays open as long as this process lives.
pub(super) async fn launch(launch: Launch<'_>) -> io::Result<Child> {
    let mut command = Command::new(launch.program);
    command.args(launch.arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let threads = launch.threads.to_string();
    command.env("OMP_NUM_THREADS", &threads).env("MKL_NUM_THREADS", &threads).env(MARK, launch.mark);
    if WAIT_VARIABLES.iter().all(|name| std::env::var_os(name).is_none()) {
        command.env(SPIN_VARIABLE, SPIN_COUNT);
    }
    command.kill_on_drop(true);
    pre_exec::apply(&mut command, &launch.habits);
    spawn_from_lasting_thread(command).await
}

type Job = (Command, tokio::runtime::Handle, oneshot::Sender<io::Result<Child>>);

/// The thread that starts all trainers; it lives as long as the process. It is needed because the
/// parent-death signal comes when the *thread* that forked ends, and a runtime may end its threads.
static LAUNCHER: LazyLock<mpsc::SyncSender<Job>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::sync_channel::<Job>(LAUNCH_QUEUE);
    let work = move || {
        for (mut command, runtime, answer) in receiver {
            let _context = runtime.enter();
            // If nobody waits for the child any more, it is dropped here, and so killed.
            let _ = answer.send(command.spawn());
        }
    };
    thread::Builder::new().name("launcher".to_owned()).spawn(work).expect("a thread can be started");
    sender
});

async fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    let (sender, receiver) = oneshot::channel();
    let gone = |_| io::Error::other("the launcher thread has ended");
    LAUNCHER
        .try_send((command, tokio::runtime::Handle::current(), sender))
        .map_err(|_| io::Error::other("too many trainers are being started at once"))?;
    receiver.await.map_err(gone)?
}

/// The result of reading one line of output.
#[derive(Debug, PartialEq)]
pub(super) enum OutputLine {
    /// A line without its end.
    Whole(Vec<u8>),
    /// The beginning of a line over [`MAX_LINE_BYTES`].
    TooLong(Vec<u8>),
    /// The pipe is closed.
    End,
}

/// Reads a trainer's output line by line, never holding more than the protocol's bound.
#[derive(Debug)]
pub(super) struct OutputLines<R = ChildStdout> {
    reader: BufReader<R>,
    partial: Vec<u8>,
}

impl<R: tokio::io::AsyncRead + Unpin> OutputLines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader), partial: Vec::new() }
    }

    /// Returns the next line that is not blank. Cancel-safe: what was read stays here.
    pub(super) async fn next(&mut self) -> io::Result<OutputLine> {
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                let rest = std::mem::take(&mut self.partial);
                return Ok(if rest.trim_ascii().is_empty() {
                    OutputLine::End
                } else {
                    OutputLine::Whole(rest)
                });
            }
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let length = end.unwrap_or(chunk.len());
            // One byte above the bound tells a line that is too long from one that just fits.
            let room = (MAX_LINE_BYTES + 1).saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&chunk[..length.min(room)]);
            self.reader.consume(end.map_or(length, |end| end + 1));
            if self.partial.len() > MAX_LINE_BYTES {
                return Ok(OutputLine::TooLong(std::mem::take(&mut self.partial)));
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.partial);
                if !line.trim_ascii().is_empty() {
                    return Ok(OutputLine::Whole(line));
                }
            }
        }
    }
}

/// The end of a trainer's standard error, filled by a task while the trainer runs.
#[derive(Debug, Clone, Default)]
pub(super) struct ErrorTail(Arc<Mutex<VecDeque<u8>>>);

impl ErrorTail {
    /// Reads `pipe` to its end and keeps the last [`MAX_ERROR_BYTES`].
    pub(super) async fn fill(self, mut pipe: ChildStderr) {
        let mut chunk = [0; 8192];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend(&chunk[..length]);
            let excess = tail.len().saturating_sub(MAX_ERROR_BYTES);
            tail.drain(..excess);
        }
    }

    /// Returns what is kept.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Returns the last line that is not blank.
    pub(super) fn last_line(&self) -> Option<String> {
        let bytes = self.bytes();
        let text = String::from_utf8_lossy(&bytes);
        text.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map(|line| crate::base::text::one_line(line, 200))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8]) -> Vec<OutputLine> {
        let mut lines = OutputLines::new(input);
        let mut all = Vec::new();
        loop {
            let line = lines.next().await.expect("a slice reads");
            let end = line == OutputLine::End;
            all.push(line);
            if end {
                return all;
            }
        }
    }

    #[tokio::test]
    async fn blank_lines_go_and_a_last_line_needs_no_end() {
        let whole = |text: &str| OutputLine::Whole(text.as_bytes().to_vec());
        assert_eq!(lines(b"a\n\n  \nb").await, [whole("a"), whole("b"), OutputLine::End]);
        assert_eq!(lines(b"").await, [OutputLine::End]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_at_the_bound() {
        let most = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(
            lines(&[&most[..], b"\n"].concat()).await,
            [OutputLine::Whole(most.clone()), OutputLine::End]
        );
        let found = lines(&[&most[..], b"y"].concat()).await;
        assert!(matches!(&found[0], OutputLine::TooLong(start) if start.len() == MAX_LINE_BYTES + 1));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_trainer_has_its_threads_and_they_soon_sleep() {
        let arguments = ["-c", "echo $OMP_NUM_THREADS $GOMP_SPINCOUNT"].map(OsString::from);
        let habits = Habits { niceness: 0, cpus: Vec::new() };
        let program = Path::new("/bin/sh");
        let launched = launch(Launch { program, arguments: &arguments, threads: 3, habits, mark: "" })
            .await
            .expect("it starts");
        let output = launched.wait_with_output().await.expect("it ends");
        let theirs = WAIT_VARIABLES.iter().any(|name| std::env::var_os(name).is_some());
        let spin =
            if theirs { std::env::var(SPIN_VARIABLE).unwrap_or_default() } else { SPIN_COUNT.to_owned() };
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), format!("3 {spin}").trim_end());
    }
}
