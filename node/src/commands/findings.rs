//! The doctor's judgement: facts about a machine and a home become findings, each with a fix.
//!
//! Pure: [`doctor`](super::doctor) gathers the facts.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::{base::words, home::MIN_FREE_BYTES};

/// Free disk, bytes, below which a night's journal and a corpus may not fit.
const COMFORTABLE_DISK: u64 = 4 << 30;
/// Free memory, bytes, below which the default config's trainer cannot be sure to start. Measured 2026-11:
/// libtorch and a small model take about 400 MB.
const NEEDED_MEMORY: u64 = 600 << 20;
/// Free memory, bytes, below which wider configs will crash because memory runs out.
const COMFORTABLE_MEMORY: u64 = 2 << 30;
/// 2026-01-01 in seconds since 1970. This program is younger, so a clock before that is wrong.
const EARLIEST_NOW: u64 = 1_767_225_600;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All is well.
    Ok,
    /// It works, but not as well as it could.
    Warn,
    /// It does not work.
    Fail,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's name, such as `disk`.
    pub check: String,
    /// How the check ended.
    pub state: State,
    /// One line on what is there.
    pub text: String,
    /// One line on what to do, where something should be done.
    pub fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &str, text: impl Into<String>) -> Self {
        Self { check: check.to_owned(), state: State::Ok, text: text.into(), fix: None }
    }

    /// It works, but `fix` would make it work better.
    pub fn warn(check: &str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.to_owned(), state: State::Warn, text: text.into(), fix: Some(fix.into()) }
    }

    /// It does not work until `fix` is done.
    pub fn fail(check: &str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.to_owned(), state: State::Fail, text: text.into(), fix: Some(fix.into()) }
    }
}

/// Formats the findings, a line each, with the fixes under them.
pub fn render(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok  ",
            State::Warn => "warn",
            State::Fail => "fail",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{state}  {:<9}{}", finding.check, words::clean(&finding.text));
        if let Some(fix) = &finding.fix {
            let _ = writeln!(out, "{:15}fix: {}", "", words::clean(fix));
        }
    }
    out
}

/// Judges the free space of the home's disk, bytes.
pub fn disk(free: u64) -> Finding {
    let text = format!("{} free", bytes(free));
    match free {
        0..MIN_FREE_BYTES => Finding::fail("disk", text, format!("free at least {}", bytes(MIN_FREE_BYTES))),
        MIN_FREE_BYTES..COMFORTABLE_DISK => {
            Finding::warn("disk", text, "free some space: corpora and the journal grow with use")
        }
        _ => Finding::ok("disk", text),
    }
}

/// Judges the memory that is free for a trainer, bytes; none where it is unknown.
pub fn memory(free: Option<u64>) -> Finding {
    let Some(free) = free else { return Finding::ok("memory", "not known on this system") };
    let text = format!("{} free", bytes(free));
    if free < NEEDED_MEMORY {
        Finding::fail("memory", text, "close other programs: a trainer needs about 600 MB to start")
    } else if free < COMFORTABLE_MEMORY {
        Finding::warn(
            "memory",
            text,
            "close other programs, or expect larger configs to crash for want of it",
        )
    } else {
        Finding::ok("memory", text)
    }
}

/// The facts about a processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// The model's name; empty where it is unknown.
    pub model: String,
    /// Cores that this process may use.
    pub usable: usize,
    /// Cores that the machine has.
    pub present: usize,
    /// The governor of its clock, such as `powersave`, and the driver; none where they are unknown.
    pub governor: Option<(String, String)>,
}

/// Judges the processor.
pub fn cpu(cpu: &Cpu) -> Finding {
    let usable = match cpu.usable {
        n if n < cpu.present => format!("{n} of {} cores usable", cpu.present),
        n => words::plural(n as u32, "core"),
    };
    let text = format!("{}, {usable}", if cpu.model.is_empty() { "unknown model" } else { &cpu.model });
    match &cpu.governor {
        // With these two drivers `powersave` still reaches full speed under load.
        Some((governor, driver))
            if governor == "powersave" && driver != "intel_pstate" && !driver.starts_with("amd-pstate") =>
        {
            Finding::warn(
                "cpu",
                format!("{text}, held at low clock by the governor `powersave`"),
                "choose another power profile, such as `cpupower frequency-set -g schedutil`",
            )
        }
        _ => Finding::ok("cpu", text),
    }
}

/// Judges the power supply: training pauses on battery.
pub fn battery(on_battery: bool) -> Finding {
    if on_battery {
        Finding::warn("power", "on battery: training pauses", "plug the machine in")
    } else {
        Finding::ok("power", "not on battery")
    }
}

/// The facts about GPUs and the libtorch in use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gpu {
    /// One line per GPU as nvidia-smi names them: name, driver version, memory.
    pub listed: Vec<String>,
    /// Whether the kernel has loaded an NVIDIA driver.
    pub driver: bool,
    /// Whether the libtorch in use was built for CUDA.
    pub libtorch_cuda: bool,
}

/// Judges the GPUs against the libtorch in use.
pub fn gpu(gpu: &Gpu) -> Finding {
    let listed = gpu.listed.join("; ");
    match (gpu.driver || !gpu.listed.is_empty(), gpu.libtorch_cuda) {
        (false, false) => Finding::ok("gpu", "none visible; the CPU is used"),
        (false, true) => Finding::ok("gpu", "none visible, though libtorch could use one; the CPU is used"),
        (true, false) => Finding::warn(
            "gpu",
            if listed.is_empty() { "an NVIDIA driver is loaded".to_owned() } else { listed },
            "libtorch here is for CPUs only: set LIBTORCH to a CUDA build of libtorch 2.11.0 and build \
             again, or train on the CPU with `--devices cpu`",
        ),
        (true, true) if gpu.listed.is_empty() => Finding::warn(
            "gpu",
            "an NVIDIA driver is loaded, but nvidia-smi lists no GPU",
            "run nvidia-smi and follow what it says",
        ),
        (true, true) => Finding::ok("gpu", listed),
    }
}

/// Judges the clock: the time now and the end of the newest experiment, both in seconds since 1970.
pub fn clock(now: u64, newest: Option<u64>) -> Finding {
    let text = words::timestamp(now);
    if now < EARLIEST_NOW {
        return Finding::fail("clock", format!("it says {text}"), "set the clock, for example with NTP");
    }
    match newest {
        Some(newest) if newest > now + 60 => Finding::warn(
            "clock",
            format!("it says {text}, but the newest experiment ended at {}", words::timestamp(newest)),
            "set the clock, for example with NTP",
        ),
        _ => Finding::ok("clock", text),
    }
}

/// Judges what `trainer --version` printed, or why it did not run.
pub fn trainer(path: &str, ran: Result<String, String>) -> Finding {
    match ran {
        Ok(version) => Finding::ok("trainer", format!("{} at {path}", words::clean(&version))),
        Err(reason) if reason.contains("shared librar") || reason.contains("Library not loaded") => {
            Finding::fail(
                "trainer",
                format!("{path} cannot load libtorch: {}", words::clean(&reason)),
                "run `scripts/libtorch.sh` and build again with `scripts/run.sh`",
            )
        }
        Err(reason) => Finding::fail(
            "trainer",
            format!("{path} does not run: {}", words::clean(&reason)),
            "build it again with `scripts/run.sh`",
        ),
    }
}

/// Formats a number of bytes: `812 MB`, `3.4 GB`.
pub fn bytes(n: u64) -> String {
    match n as f64 {
        n if n < 999.5e6 => format!("{:.0} MB", n / 1e6),
        n => format!("{:.1} GB", n / 1e9),
    }
}

/// Returns the worst state among the findings; ok where there are none.
pub fn worst(findings: &[Finding]) -> State {
    findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(finding: &Finding, state: State, text: &str) {
        assert_eq!(finding.state, state, "{finding:?}");
        assert!(finding.text.contains(text), "{finding:?}");
        assert_eq!(finding.fix.is_some(), state != State::Ok, "whatever is not well has a fix: {finding:?}");
    }

    #[test]
    fn space() {
        check(&disk(100 << 20), State::Fail, "105 MB free");
        check(&disk(1 << 30), State::Warn, "1.1 GB");
        check(&disk(64 << 30), State::Ok, "68.7 GB");
        check(&memory(None), State::Ok, "not known");
        check(&memory(Some(100 << 20)), State::Fail, "105 MB");
        check(&memory(Some(1 << 30)), State::Warn, "1.1 GB");
        check(&memory(Some(8 << 30)), State::Ok, "8.6 GB");
    }

    #[test]
    fn processors() {
        let of = |usable, governor: Option<(&str, &str)>| {
            cpu(&Cpu {
                model: "Fast 9000".to_owned(),
                usable,
                present: 8,
                governor: governor.map(|(governor, driver)| (governor.to_owned(), driver.to_owned())),
            })
        };
        check(&of(8, None), State::Ok, "Fast 9000, 8 cores");
        check(&of(2, None), State::Ok, "2 of 8 cores usable");
        check(&of(8, Some(("powersave", "intel_pstate"))), State::Ok, "8 cores");
        check(&of(8, Some(("powersave", "acpi-cpufreq"))), State::Warn, "low clock");
        check(&of(8, Some(("schedutil", "acpi-cpufreq"))), State::Ok, "8 cores");
    }

    #[test]
    fn gpus_and_the_libtorch_in_use() {
        let of = |listed: &[&str], driver, libtorch_cuda| {
            let listed = listed.iter().map(|&line| line.to_owned()).collect();
            gpu(&Gpu { listed, driver, libtorch_cuda })
        };
        check(&of(&[], false, false), State::Ok, "none visible");
        check(&of(&[], false, true), State::Ok, "none visible");
        check(&of(&["H200, 580.1, 143771 MiB"], true, true), State::Ok, "H200");
        check(&of(&["H200, 580.1, 143771 MiB"], true, false), State::Warn, "H200");
        check(&of(&[], true, true), State::Warn, "lists no GPU");
    }

    #[test]
    fn clocks() {
        check(&clock(0, None), State::Fail, "1970-01-01");
        check(&clock(1_795_219_384, None), State::Ok, "2026-11-21");
        check(&clock(1_795_219_384, Some(1_795_219_000)), State::Ok, "2026-11-21");
        check(&clock(1_795_219_384, Some(1_795_300_000)), State::Warn, "newest experiment");
    }

    #[test]
    fn trainers() {
        check(&trainer("/bin/trainer", Ok("trainer 0.1.0\n".to_owned())), State::Ok, "trainer 0.1.0 at");
        let missing = "error while loading shared libraries: libtorch.so: cannot open";
        check(&trainer("/bin/trainer", Err(missing.to_owned())), State::Fail, "cannot load libtorch");
        check(&trainer("/bin/trainer", Err("exit status 2".to_owned())), State::Fail, "does not run");
    }

    #[test]
    fn findings_print_a_line_each_with_the_fix_below() {
        let findings = [Finding::ok("disk", "9 GB free"), Finding::fail("memory", "none", "buy some")];
        assert_eq!(
            render(&findings),
            "ok    disk     9 GB free\nfail  memory   none\n               fix: buy some\n"
        );
        assert_eq!(worst(&findings), State::Fail);
        assert_eq!(worst(&[]), State::Ok);
    }
}
