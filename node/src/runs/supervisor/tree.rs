//! The processes of one run: the trainer, what it forked, and what those forked, wherever they went.
//!
//! A process group loses a child that calls `setsid`, and a parent that exits leaves its children to another
//! process. So the node is the subreaper of them all, and each run has a mark in its environment that every
//! fork inherits. What was once seen as a descendant stays known by its process id and start time. On other
//! systems than Linux only the group is ended.

use rustix::process::{Pid, Signal, kill_process_group};

/// The name of the environment variable that marks the processes of a run.
pub(super) const MARK: &str = "AUTOSWARM_RUN";

/// Makes this process the parent of every run's orphans, so that they can be found. Idempotent.
pub(super) fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    {
        // Only an ancient kernel refuses; then the group and the mark must do.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    }
}

/// Returns how many processes the kernel has killed since boot for lack of memory; 0 where it does not say.
pub(super) fn out_of_memory_kills() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|n| n.trim().parse().ok())
        .unwrap_or(0)
}

/// The processes of a run. Dropping it kills its group, so that neither a panic nor an abandoned future
/// leaves a trainer behind.
#[derive(Debug)]
pub(super) struct Tree {
    root: Pid,
    #[cfg(target_os = "linux")]
    linux: linux::Known,
    /// Whether the root was reaped, so that its id may be another process's.
    gone: bool,
}

impl Tree {
    /// Takes charge of the processes that `root` leads; `mark` is the value of [`MARK`] in its environment.
    pub(super) fn new(root: Pid, mark: &str) -> Self {
        #[cfg(not(target_os = "linux"))]
        let _ = mark;
        Self {
            root,
            #[cfg(target_os = "linux")]
            linux: linux::Known::new(root, mark),
            gone: false,
        }
    }

    /// Looks for new descendants. It reads one small file per process of the machine: call it about once a
    /// second.
    pub(super) fn refresh(&mut self) {
        #[cfg(target_os = "linux")]
        self.linux.refresh();
    }

    /// Returns the memory of the known processes, bytes, without files that they map.
    pub(super) fn memory_bytes(&self) -> u64 {
        #[cfg(target_os = "linux")]
        return self.linux.memory_bytes();
        #[cfg(not(target_os = "linux"))]
        0
    }

    /// Sends a signal to every process of the run. The root must not have been reaped yet.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.root, signal); // an empty group is what we want
        #[cfg(target_os = "linux")]
        self.linux.signal(signal);
    }

    /// Kills what the root left behind after it was reaped. Returns whether there may be more, so call again.
    pub(super) fn sweep(&mut self) -> bool {
        self.gone = true;
        #[cfg(target_os = "linux")]
        return self.linux.sweep();
        #[cfg(not(target_os = "linux"))]
        {
            let _ = kill_process_group(self.root, Signal::KILL);
            false
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.gone {
            self.signal(Signal::KILL);
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
    };

    use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

    use crate::runs::supervisor::tree::MARK;

    /// Most processes remembered for one run; a fork bomb is killed by its group and by its mark all the
    /// same.
    const MAX_KNOWN: usize = 4096;

    /// Most sweeps, a few milliseconds apart, that wait for a process that is becoming another program.
    const PATIENCE: u32 = 50;

    /// What `/proc` says of a process.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Stat {
        parent: i32,
        group: i32,
        zombie: bool,
        /// Its start time; no later process with the same id shares it.
        started: u64,
    }

    /// The processes of a run that are known.
    #[derive(Debug)]
    pub(super) struct Known {
        root: i32,
        mark: Vec<u8>,
        /// Start time of each known process, by its id.
        started: BTreeMap<i32, u64>,
        /// Sweeps left that wait for children without an environment: a child of ours that is not of the run
        /// may have none.
        patience: u32,
    }

    impl Known {
        pub(super) fn new(root: Pid, mark: &str) -> Self {
            let root = root.as_raw_pid();
            let mark = format!("{MARK}={mark}").into_bytes();
            let started = stat(root).map(|stat| (root, stat.started)).into_iter().collect();
            Self { root, mark, started, patience: PATIENCE }
        }

        pub(super) fn refresh(&mut self) {
            let all = processes();
            self.started.retain(|pid, started| all.get(pid).is_some_and(|stat| stat.started == *started));
            // Parents mostly have smaller ids than their children, but ids wrap around: go on until nothing
            // is new.
            loop {
                let new: Vec<(i32, u64)> = all
                    .iter()
                    .filter(|(pid, _)| !self.started.contains_key(pid))
                    .filter(|(_, stat)| self.started.contains_key(&stat.parent) || stat.group == self.root)
                    .map(|(&pid, stat)| (pid, stat.started))
                    .collect();
                if new.is_empty() || self.started.len() > MAX_KNOWN {
                    return;
                }
                self.started.extend(new);
            }
        }

        pub(super) fn memory_bytes(&self) -> u64 {
            self.started.keys().map(|&pid| memory_of(pid)).sum()
        }

        pub(super) fn signal(&self, signal: Signal) {
            let alive = self.started.iter().filter(|(pid, started)| is_same(**pid, **started));
            for (&pid, _) in alive {
                send(pid, signal);
            }
        }

        /// Kills and reaps every process that has the mark or is known. Returns whether any still lives.
        pub(super) fn sweep(&mut self) -> bool {
            let me = getpid().as_raw_pid();
            let all = processes();
            let mut ours: BTreeSet<i32> = self
                .started
                .iter()
                .filter(|(pid, started)| all.get(pid).is_some_and(|stat| stat.started == **started))
                .map(|(&pid, _)| pid)
                .collect();
            // A process that is becoming another program has no environment for a moment: look again.
            let mut unsure = false;
            for (&pid, stat) in all.iter().filter(|&(&pid, _)| pid != me) {
                match environment(pid) {
                    Some(text) if text.is_empty() => unsure |= stat.parent == me && !stat.zombie,
                    Some(text) if has_mark(&text, &self.mark) => drop(ours.insert(pid)),
                    _ => {}
                }
            }
            // While the group has members, the kernel gives its number to no new process. So a process with
            // that number that we do not know leads another group.
            if all.get(&self.root).is_none_or(|_| ours.contains(&self.root)) {
                ours.extend(all.iter().filter(|(_, stat)| stat.group == self.root).map(|(&pid, _)| pid));
            }
            loop {
                let children = all.iter().filter(|(_, stat)| ours.contains(&stat.parent));
                let new: Vec<i32> = children.map(|(&pid, _)| pid).filter(|pid| !ours.contains(pid)).collect();
                if new.is_empty() {
                    break;
                }
                ours.extend(new);
            }
            // Stays known although killed: a dead process has no mark any more, and still has to be reaped.
            for &pid in &ours {
                self.started.insert(pid, all[&pid].started);
                if !all[&pid].zombie {
                    send(pid, Signal::KILL);
                }
                // Only a parent can reap; orphans of the run have become our children.
                if all[&pid].parent == me
                    && let Some(pid) = Pid::from_raw(pid)
                {
                    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
                }
            }
            if unsure && ours.is_empty() && self.patience > 0 {
                self.patience -= 1;
                return true;
            }
            !ours.is_empty()
        }
    }

    fn send(pid: i32, signal: Signal) {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, signal); // gone already is what we want
        }
    }

    fn is_same(pid: i32, started: u64) -> bool {
        stat(pid).is_some_and(|stat| stat.started == started)
    }

    fn processes() -> BTreeMap<i32, Stat> {
        let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
    }

    fn stat(pid: i32) -> Option<Stat> {
        parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads `pid (name) state parent group …`. The name may hold spaces and parentheses, so it ends at the
    /// last `)`.
    fn parse_stat(text: &[u8]) -> Option<Stat> {
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Stat {
            zombie: matches!(*fields.first()?, "Z" | "X"),
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?, // field 22 of proc_pid_stat(5)
        })
    }

    fn memory_of(pid: i32) -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        parse_memory(&status)
    }

    fn parse_memory(status: &str) -> u64 {
        let kibibytes = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        1024 * (kibibytes("RssAnon:") + kibibytes("RssShmem:"))
    }

    fn environment(pid: i32) -> Option<Vec<u8>> {
        fs::read(format!("/proc/{pid}/environ")).ok()
    }

    fn has_mark(environment: &[u8], mark: &[u8]) -> bool {
        environment.split(|&byte| byte == 0).any(|entry| entry == mark)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_name_with_parentheses_does_not_mislead() {
            let line = b"12 (a) S (b) Z 7 9 9 0 -1 4 0 0 0 0 0 0 0 0 39 19 1 0 4711 0 0";
            let expected = Stat { parent: 7, group: 9, zombie: true, started: 4711 };
            assert_eq!(parse_stat(line), Some(expected));
            assert_eq!(parse_stat(b"12 (a"), None);
        }

        #[test]
        fn mapped_files_are_no_memory() {
            let status =
                "Name:\tx\nVmRSS:\t 900 kB\nRssAnon:\t 100 kB\nRssFile:\t 780 kB\nRssShmem:\t 20 kB\n";
            assert_eq!(parse_memory(status), 120 * 1024);
            assert_eq!(parse_memory(""), 0);
        }

        #[test]
        fn this_process_is_there_and_takes_memory() {
            let me = getpid().as_raw_pid();
            assert!(processes().contains_key(&me));
            assert!(memory_of(me) > 0);
        }
    }
}
