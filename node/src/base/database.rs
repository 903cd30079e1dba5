//! Opening a sled database that a dying process may still hold.

use std::{thread, time::Duration};

/// How often, and how long apart, a lock is asked for again: half a minute in all. The dying child that holds it gives way to all
/// other work, and on a busy machine dies slowly (seen: over two seconds at a load of 20 on two cores).
const LOCK_TRIES: u32 = 600;

const LOCK_REST: Duration = Duration::from_millis(50);

/// Opens a database. A node that was just killed may have left its lock to a child that was about to become a trainer:
/// it is gone in a moment, and nobody else can hold it, since we hold the home.
pub fn open_patiently(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..LOCK_TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") => thread::sleep(LOCK_REST),
            opened => return opened,
        }
    }
    config.open()
}
