//! The research core: what to try, what it showed, where to stand. Pure: events in, actions out.

pub mod verdict;
