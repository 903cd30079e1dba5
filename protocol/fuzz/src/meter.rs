//! A global allocator that counts what each thread holds, so that a decoder's memory has a number.
#![allow(unsafe_code)] // an allocator is unsafe by its trait; every call is handed on as it came

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// Bytes that this thread holds now.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// Most bytes that it held at once since [`peak`] last began.
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread holds.
#[derive(Debug)]
pub struct Counting;

/// Adds to what this thread holds. A thread that ends frees memory after its counters are gone; nobody reads
/// them then, so a failed access is ignored.
fn count(bytes: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every method hands its arguments on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    /// Counts the old and the new block together, since the system may copy from one to the other.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize);
        // SAFETY: the caller keeps the contract of `realloc`.
        let pointer = unsafe { System.realloc(pointer, layout, size) };
        count(-(layout.size() as isize));
        pointer
    }
}

/// Runs `work`; returns its value and the most bytes that this thread held meanwhile, beyond those it held
/// before. The binary must have [`Counting`] as its global allocator.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    MOST.set(before);
    let value = work();
    (value, (MOST.get() - before).max(0) as usize)
}
