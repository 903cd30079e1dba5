//! Fuzz targets for every decoder of bytes from peers.
//!
//! The tests `decoders` of `protocol` and `node` share the modules and run the targets on stable.

pub mod meter;
pub mod mutate;
pub mod of_node;
pub mod of_protocol;
pub mod target;

pub use libfuzzer_sys;

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

/// Returns the targets of both crates, `protocol` and `node`.
pub fn targets() -> impl Iterator<Item = &'static target::Target> {
    of_protocol::TARGETS.iter().chain(of_node::TARGETS).copied()
}

/// Makes the binary of one target: the only line that each file in `fuzz_targets/` needs.
#[macro_export]
macro_rules! fuzz {
    ($target:expr) => {
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            $target.run(data);
        });
    };
}
