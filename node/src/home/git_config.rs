//! The user's own git configuration, which the node's repositories do not read; one of the few places with
//! unsafe code.

#![allow(unsafe_code)]

use git2::{ConfigLevel, opts};

/// Lets libgit2 read no configuration but a repository's own. A `~/.gitconfig` that does not parse, or that
/// belongs to somebody else, would keep every home from opening. Call it before the first thread starts.
pub fn ignore_the_users() {
    for level in [ConfigLevel::ProgramData, ConfigLevel::System, ConfigLevel::XDG, ConfigLevel::Global] {
        // SAFETY: the search paths are global to libgit2 and may not change while another thread uses it. No
        // other thread runs yet.
        let set = unsafe { opts::set_search_path(level, "") };
        if let Err(error) = set {
            tracing::warn!("the user's git configuration is read: {}", error.message());
        }
    }
}
