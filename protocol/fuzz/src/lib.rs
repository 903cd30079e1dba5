//! Fuzz targets for every decoder of bytes from peers, and what they share with the tests on stable.

pub mod meter;
pub mod mutate;
pub mod of_node;
pub mod of_protocol;
pub mod target;

pub use libfuzzer_sys;

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

/// Returns every target.
pub fn targets() -> impl Iterator<Item = &'static target::Target> {
    of_protocol::TARGETS.iter().chain(of_node::TARGETS).copied()
}

/// Makes the whole of a target's binary.
#[macro_export]
macro_rules! fuzz {
    ($target:expr) => {
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            $target.run(data);
        });
    };
}
