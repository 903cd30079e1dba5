//! The wall clock. Only drivers read it; the code below them gets the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the seconds since 1970; 0 where the clock stands before that.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
