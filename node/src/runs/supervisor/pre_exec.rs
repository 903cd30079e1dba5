//! What a trainer's process does to itself between fork and exec; one of the few places with unsafe code.

#![allow(unsafe_code)]

use std::io;

use tokio::process::Command;

/// What the child sets for itself before it becomes the trainer.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    /// Niceness of the process.
    pub(super) niceness: i32,
    /// Cores that it may use; empty for all.
    pub(super) cpus: Vec<usize>,
}

/// Makes the child lead its own process group, yield to everything else, stay on its cores, leave no core
/// dump, and die with the thread that starts it.
pub(super) fn apply(command: &mut Command, habits: &Habits) {
    command.process_group(0);
    let niceness = habits.niceness;
    #[cfg(target_os = "linux")]
    let (parent, cpus) = (rustix::process::getpid(), cpu_set(&habits.cpus));
    let hook = move || {
        use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        #[cfg(target_os = "linux")]
        {
            if let Some(cpus) = &cpus {
                rustix::thread::sched_setaffinity(None, cpus)?;
            }
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // The parent may have died before the line above; then nobody would ever send that signal.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::from(rustix::io::Errno::SRCH));
            }
        }
        // Last, because until exec this is a copy of the node that holds its locks, and must not be slow.
        setpriority_process(None, niceness)?;
        Ok::<(), io::Error>(())
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The hook makes raw system calls
    // through rustix, allocates nothing, takes no lock, and its errors are plain numbers.
    unsafe {
        command.pre_exec(hook);
    }
}

#[cfg(target_os = "linux")]
fn cpu_set(cpus: &[usize]) -> Option<rustix::thread::CpuSet> {
    use rustix::thread::CpuSet;
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    (set.count() > 0).then_some(set)
}
