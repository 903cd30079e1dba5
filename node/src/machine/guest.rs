//! What makes a node a good guest on a machine that somebody works at: priority, cores, battery.

use std::{fs, path::Path, thread};

/// The niceness of every trainer: the lowest priority, so that anything else on the machine goes first.
pub const TRAINER_NICENESS: i32 = 19;

/// Where Linux lists batteries and mains adapters.
pub const POWER_SUPPLIES: &str = "/sys/class/power_supply";

/// Returns the machine's memory in bytes; 4 GiB where the operating system does not say.
pub fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    total.map_or(4 << 30, |kib: u64| kib * 1024)
}

/// Returns how many threads training takes by default: all cores but one where there are more than two.
pub fn default_threads(cores: usize) -> usize {
    if cores > 2 { cores - 1 } else { cores.max(1) }
}

/// Returns the cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns the numbers of the cores that this process may use; empty where the system does not say.
pub fn core_numbers() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        return (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    }
    Vec::new()
}

/// Returns whether the machine runs on its battery. `supplies` is the folder [`POWER_SUPPLIES`].
///
/// It does if a system battery is discharging and no mains adapter is online. A machine that lists neither (a
/// desktop, a server, a container) does not. The battery of a peripheral (a mouse) does not count.
pub fn on_battery(supplies: &Path) -> bool {
    let Ok(entries) = fs::read_dir(supplies) else { return false };
    let mut discharging = false;
    for folder in entries.flatten().map(|entry| entry.path()) {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default().trim().to_owned();
        match read("type").as_str() {
            "Battery" if read("scope") != "Device" => discharging |= read("status") == "Discharging",
            "Mains" | "USB" if read("online") == "1" => return false,
            _ => {}
        }
    }
    discharging
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(supplies: &[(&str, &[(&str, &str)])], expected: bool) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, files) in supplies {
            let supply = folder.path().join(name);
            fs::create_dir(&supply).expect("a folder");
            for (file, text) in *files {
                fs::write(supply.join(file), format!("{text}\n")).expect("a file");
            }
        }
        assert_eq!(on_battery(folder.path()), expected, "{supplies:?}");
    }

    const MAINS_OFF: (&str, &[(&str, &str)]) = ("AC", &[("type", "Mains"), ("online", "0")]);
    const MAINS_ON: (&str, &[(&str, &str)]) = ("AC", &[("type", "Mains"), ("online", "1")]);
    const DISCHARGING: (&str, &[(&str, &str)]) = ("BAT0", &[("type", "Battery"), ("status", "Discharging")]);
    const FULL: (&str, &[(&str, &str)]) = ("BAT0", &[("type", "Battery"), ("status", "Full")]);
    const MOUSE: (&str, &[(&str, &str)]) =
        ("mouse", &[("type", "Battery"), ("scope", "Device"), ("status", "Discharging")]);

    #[test]
    fn a_discharging_battery_without_mains_is_battery() {
        check(&[MAINS_OFF, DISCHARGING], true);
        check(&[DISCHARGING], true);
        check(&[DISCHARGING, MAINS_ON], false);
        check(&[FULL, MAINS_OFF], false);
        check(&[MOUSE], false);
        check(&[], false);
    }

    #[test]
    fn a_machine_without_power_supplies_is_on_mains() {
        assert!(!on_battery(Path::new("/nonexistent/power_supply")));
    }

    #[test]
    fn one_core_is_left_free_where_there_are_more_than_two() {
        for (cores, threads) in [(0, 1), (1, 1), (2, 2), (3, 2), (8, 7)] {
            assert_eq!(default_threads(cores), threads);
        }
    }
}
