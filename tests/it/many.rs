//! Many real processes on one machine: all stay up, all hear a discovery, and listeners use little.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::{kills::Node, solo::Place, swarm::place};

/// Processes of one CI run; `PROCESSES=35` starts more.
const PROCESSES: usize = 8;

/// How long the listeners are watched, once all have heard of a discovery.
const WATCHED: Duration = Duration::from_secs(8);

/// What a node that only listens may use: a share of one core, and resident memory, bytes.
const MOST_CPU: f64 = 0.02;
const MOST_MEMORY: u64 = 150_000_000;

/// The kernel's unit of CPU time in `/proc`, on every platform that we run on (sysconf(_SC_CLK_TCK)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns the CPU seconds that a process has used.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a running process");
    // The name may hold spaces; after it, user and system time are the 12th and the 13th field.
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / TICKS_PER_SECOND
}

/// Returns the resident memory of a process, bytes.
pub(crate) fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

#[test]
fn many_processes_stay_up_and_listeners_take_next_to_nothing() {
    let asked = std::env::var("PROCESSES").ok().and_then(|text| text.parse().ok());
    let count: usize = asked.unwrap_or(PROCESSES);
    let started = Instant::now();
    let seeding = place();
    let mut command = seeding.node(&["seed", "little.toml", "--seed", "1"]);
    command.env("FAKE_TRAINER", "slow=0.2,sigma=0.0005");
    let mut seeder = Node::start(command);
    let ticket = seeder.wait_for("ticket").pop().expect("an event");
    let ticket = ticket["ticket"].as_str().expect("a text").to_owned();

    let places: Vec<Place> = (1..count).map(|_| Place::new()).collect();
    let mut listeners: Vec<Node> =
        places.iter().map(|place| Node::start(place.node(&["join", &ticket, "--observe"]))).collect();
    for listener in &mut listeners {
        listener.wait_for("heard");
    }
    println!("{count} processes, a discovery is at each after {:.1?}", started.elapsed());

    let ids: Vec<u32> = listeners.iter().map(|listener| listener.child.id()).collect();
    let (before, since): (Vec<f64>, _) = (ids.iter().map(|id| cpu_seconds(*id)).collect(), Instant::now());
    thread::sleep(WATCHED);
    let wall = since.elapsed().as_secs_f64();
    let mut cpu: Vec<f64> =
        ids.iter().zip(before).map(|(id, before)| (cpu_seconds(*id) - before) / wall).collect();
    let mut memory: Vec<u64> = ids.iter().map(|id| memory(*id)).collect();
    cpu.sort_by(f64::total_cmp);
    memory.sort_unstable();
    let (most_cpu, most_memory) = (cpu[cpu.len() - 1], memory[memory.len() - 1]);
    println!(
        "who listens takes {:.2} % of a core and {} MB, at most {:.2} % and {} MB",
        100.0 * cpu[cpu.len() / 2],
        memory[memory.len() / 2] / 1_000_000,
        100.0 * most_cpu,
        most_memory / 1_000_000
    );
    for node in listeners.iter_mut().chain([&mut seeder]) {
        assert_eq!(node.child.try_wait().expect("a child"), None, "a node ended by itself");
    }
    assert!(most_cpu < MOST_CPU, "{most_cpu} of a core");
    assert!(most_memory < MOST_MEMORY, "{most_memory} bytes");
}
