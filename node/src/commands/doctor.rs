//! `node doctor`: looks at the machine and the home, and prints what is wrong and how to fix it.

use std::{
    env, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;

use super::{
    common::print,
    findings::{self, Cpu, Finding, Gpu, State},
};
use crate::{
    base::clock::unix_now,
    cli::args::JsonFlag,
    control::{self, Request},
    home::{
        Home, HomeError,
        index::{Index, IndexState},
        journal::Journal,
    },
    machine::guest,
    ui::view::json,
};

/// How long a helper program may take to answer: loading libtorch from a cold disk takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a helper program is asked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Most bytes that are read from each of a helper program's pipes.
const MAX_OUTPUT: u64 = 16 * 1024;

/// Makes every check and prints the findings. Returns an error if a check failed.
pub fn run(home: &Path, trainer: anyhow::Result<PathBuf>, output: JsonFlag) -> anyhow::Result<()> {
    let mut findings = of_home(home);
    findings.extend(of_trainer(trainer));
    findings.push(findings::cpu(&look_at_cpu()));
    findings.push(findings::memory(free_memory()));
    findings.push(findings::battery(guest::on_battery(Path::new(guest::POWER_SUPPLIES))));
    if output.json {
        for finding in &findings {
            json::write_line(&mut io::stdout(), finding)?;
        }
    } else {
        print(&findings::render(&findings))?;
    }
    match findings.iter().filter(|finding| finding.state == State::Fail).count() {
        0 => Ok(()),
        1 => bail!("one check failed"),
        n => bail!("{n} checks failed"),
    }
}

/// Looks at the home, its disk, its journal and its index, without making a home where there is none.
fn of_home(path: &Path) -> Vec<Finding> {
    let shown = path.display();
    let mut findings = vec![findings::disk(free_disk(path))];
    if !path.exists() {
        findings.push(Finding::ok("home", format!("none at {shown} yet; `node solo` makes it")));
        findings.push(findings::clock(unix_now(), None));
        return findings;
    }
    match Home::open(path) {
        Ok(home) => {
            findings.push(Finding::ok("home", format!("{shown}, writable, no node running")));
            findings.extend(of_memory(&home));
            findings.push(of_corpora(&home.data()));
        }
        Err(HomeError::Busy { holder, .. }) => {
            findings.push(match control::ask(path, &Request::Status, &mut |_| {}) {
                Ok(_) => Finding::ok("home", format!("{shown}, in use by a running node (process {holder})")),
                Err(error) => Finding::warn(
                    "home",
                    format!("{shown} is held by process {holder}, which does not answer: {error}"),
                    format!("wait a moment; if it stays so, end that process with `kill {holder}`"),
                ),
            });
            findings.push(findings::clock(unix_now(), None));
        }
        // The finding on the disk says so already.
        Err(HomeError::DiskFull { .. }) => findings.push(findings::clock(unix_now(), None)),
        Err(error) => {
            findings.push(Finding::fail(
                "home",
                error.to_string(),
                "make it writable, or choose another with `--home DIR`",
            ));
            findings.push(findings::clock(unix_now(), None));
        }
    }
    findings
}

/// Judges what the home remembers: the journal, the index, and the clock by the newest experiment.
fn of_memory(home: &Home) -> Vec<Finding> {
    let opened = match Journal::open(home.path()) {
        Ok(opened) => opened,
        Err(error) => {
            let fix = "move the folder `journal` of the home aside; `git fsck` in it says more";
            return vec![Finding::fail("journal", error.to_string(), fix), findings::clock(unix_now(), None)];
        }
    };
    let count = format!("{} experiments", opened.experiments.len());
    let journal = match opened.damaged.as_slice() {
        [] => Finding::ok("journal", count),
        [first, ..] => Finding::warn(
            "journal",
            format!("{count}, {} unreadable: {first}", opened.damaged.len()),
            "run `git fsck` in the folder `journal` of the home; the rest is used",
        ),
    };
    let index = match Index::open(&home.index(), &opened.experiments) {
        Ok((_, IndexState::Equal | IndexState::Missing)) => Finding::ok("index", "equal to the journal"),
        Ok((_, IndexState::Behind(n))) => {
            Finding::ok("index", format!("was {n} behind the journal, now equal"))
        }
        Ok((_, IndexState::Damaged { reason, moved_to })) => Finding::ok(
            "index",
            format!("was damaged ({reason}) and is rebuilt; the old one is at {}", moved_to.display()),
        ),
        Err(error) => Finding::fail(
            "index",
            error.to_string(),
            "remove the folder `index` of the home; it is rebuilt from the journal",
        ),
    };
    let newest = opened.experiments.iter().map(|recorded| recorded.experiment.finished_at).max();
    vec![journal, index, findings::clock(unix_now(), newest)]
}

fn of_corpora(data: &Path) -> Finding {
    let folders = fs::read_dir(data).into_iter().flatten().flatten();
    let ready = folders.filter(|entry| entry.path().join("dataset.json").is_file()).count();
    match ready {
        0 => Finding::ok("corpus", "none prepared yet; the first `node solo` does it"),
        n => Finding::ok("corpus", format!("{n} prepared in {}", data.display())),
    }
}

/// Returns the free bytes of the disk of `path`, or of the nearest folder above it that exists.
fn free_disk(path: &Path) -> u64 {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute
        .ancestors()
        .find_map(|folder| rustix::fs::statvfs(folder).ok())
        .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn of_trainer(trainer: anyhow::Result<PathBuf>) -> Vec<Finding> {
    let (finding, libtorch_cuda) = match trainer {
        Ok(path) => {
            let ran = answer(Command::new(&path).arg("--version"));
            let cuda = ran.is_ok() && has_cuda(&path);
            (findings::trainer(&path.display().to_string(), ran), cuda)
        }
        Err(error) => {
            let fix = "build both binaries with `scripts/run.sh`";
            (Finding::fail("trainer", format!("{error:#}"), fix), false)
        }
    };
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    let listed = answer(Command::new("nvidia-smi").args(query)).unwrap_or_default();
    let gpu = Gpu {
        listed: listed.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect(),
        driver: Path::new("/proc/driver/nvidia/version").exists(),
        libtorch_cuda,
    };
    vec![finding, findings::gpu(&gpu)]
}

/// Returns whether `libtorch_cuda.so` lies in a folder from which the trainer loads its libtorch.
fn has_cuda(trainer: &Path) -> bool {
    let loaded = answer(Command::new("ldd").arg(trainer)).unwrap_or_default();
    loaded
        .lines()
        .filter_map(|line| line.split_once("=> "))
        .filter(|(name, _)| name.contains("libtorch"))
        .filter_map(|(_, path)| Path::new(path.split(" (").next()?.trim()).parent())
        .any(|folder| folder.join("libtorch_cuda.so").exists())
}

/// Runs a helper program and returns what it printed, or why it failed. It is killed when it takes too long.
fn answer(command: &mut Command) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Both pipes are read while the program runs: it would stand still before a full one.
    let printed = thread::spawn(move || read_all(stdout));
    let complained = thread::spawn(move || read_all(stderr));
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() < PATIENCE => thread::sleep(LOOK_EVERY),
            Ok(None) => {
                // An error here changes nothing: its time is over.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it did not answer within {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    let read = |thread: thread::JoinHandle<String>| thread.join().unwrap_or_default();
    let (printed, complained) = (read(printed), read(complained));
    if status.success() { Ok(printed) } else { Err(format!("{status}: {}", complained.trim())) }
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before an error still says something.
        let _ = pipe.take(MAX_OUTPUT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn look_at_cpu() -> Cpu {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        info.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split_once(": "))
            .map(|pair| pair.1)
    };
    let present = info.lines().filter(|line| line.starts_with("processor")).count();
    let clock = |name: &str| {
        let path = Path::new("/sys/devices/system/cpu/cpu0/cpufreq").join(name);
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    Cpu {
        model: field("model name").unwrap_or(env::consts::ARCH).to_owned(),
        usable: guest::cores(),
        present: present.max(guest::cores()),
        governor: clock("scaling_governor").zip(clock("scaling_driver")),
    }
}

/// Returns the bytes of memory that are free for a trainer: the system's, or the control group's where those
/// are fewer.
fn free_memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let free = line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024;
    let of_group = |name: &str| {
        let text = fs::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let group = of_group("memory.max").zip(of_group("memory.current"));
    Some(group.map_or(free, |(most, used)| free.min(most.saturating_sub(used))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_program_answers_or_says_why_not() {
        assert_eq!(answer(Command::new("sh").args(["-c", "echo hello"])), Ok("hello\n".to_owned()));
        let error = answer(Command::new("sh").args(["-c", "echo no >&2; exit 3"])).expect_err("it failed");
        assert!(error.contains('3') && error.contains("no"), "{error}");
        assert!(answer(&mut Command::new("/nonexistent/program")).is_err());
    }

    #[test]
    fn a_missing_home_is_not_made() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = folder.path().join("home");
        let findings = of_home(&home);
        assert!(findings.iter().all(|finding| finding.state != State::Fail), "{findings:?}");
        assert!(!home.exists());
    }

    #[test]
    fn a_home_with_a_journal_is_looked_through() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        drop(Home::open(folder.path()).expect("a home"));
        let checks: Vec<String> = of_home(folder.path()).into_iter().map(|finding| finding.check).collect();
        assert_eq!(checks, ["disk", "home", "journal", "index", "clock", "corpus"]);
    }

    #[test]
    fn a_missing_trainer_is_a_failure_with_its_fix() {
        let findings = of_trainer(Err(anyhow::anyhow!("there is no trainer at `x`")));
        assert_eq!(findings[0].state, State::Fail);
        assert!(findings[0].text.contains("no trainer at `x`"));
    }
}
