//! Opens a sled database whose lock a dying process may still hold.

use std::{thread, time::Duration};

/// Most attempts to get the lock, [`LOCK_REST`] apart: half a minute in all. The dying child that holds it
/// gives way to all other work. So on a busy machine it dies slowly (seen: over two seconds at a load of 20
/// on two cores).
const LOCK_TRIES: u32 = 600;

/// Time between two attempts.
const LOCK_REST: Duration = Duration::from_millis(50);

/// Opens a database and waits for its lock where necessary. A node that was just killed may have left the
/// lock to a child that was about to become a trainer. That child is gone in a moment, and nobody else can
/// hold the lock, since we hold the home.
pub fn open_patiently(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..LOCK_TRIES {
        match config.open() {
            // sled has no error of its own for a lock that is held: only the text tells.
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") => thread::sleep(LOCK_REST),
            opened => return opened,
        }
    }
    config.open()
}
