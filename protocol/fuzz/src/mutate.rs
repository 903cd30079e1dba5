//! A driver of fuzz targets without libFuzzer: valid inputs with a few changes, and noise.
//!
//! Every input follows from the seed. Not here: coverage, which only libFuzzer follows.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crate::target::{Ran, Target};

/// Most changes that are made to one input.
const MOST_CHANGES: u64 = 8;

/// Lengths and numbers that decoders often get wrong: limits, and values beside them.
const NUMBERS: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0xffff, 1 << 15, 1 << 18, u32::MAX as u64, 1 << 40, u64::MAX - 7, u64::MAX];

/// A source of inputs that all follow from one seed.
#[derive(Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// Returns the source that begins at `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next random number, by SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Returns the next input, at most one byte over `limit`.
    pub fn input(&mut self, seeds: &[Vec<u8>], limit: usize) -> Vec<u8> {
        // One input in eight is noise, with short lengths as likely as long ones.
        if self.below(8) == 0 {
            let magnitude = self.below(11);
            let length = self.below(1 << magnitude);
            return (0..length).map(|_| self.next() as u8).collect();
        }
        let mut input = self.pick(seeds).clone();
        for _ in 0..=self.next() % MOST_CHANGES {
            self.change(&mut input, seeds);
        }
        // One in 64 is repeated up to any length, so that sizes near the limit are tried too.
        if self.below(64) == 0 && !input.is_empty() {
            let wanted = self.below(limit + 2);
            input = input.iter().copied().cycle().take(wanted).collect();
        }
        input.truncate(limit + 1);
        input
    }

    /// Cuts, inserts, flips, overwrites, removes or repeats something, or takes a part of another seed.
    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        match self.below(9) {
            0 => input.truncate(at),
            1 => input.insert(at, self.next() as u8),
            2 if at < input.len() => input[at] ^= 1 << self.below(8),
            3 if at < input.len() => input[at] = self.next() as u8,
            4 => self.overwrite(input, at),
            5 if at < input.len() => {
                let end = at + self.below(input.len() - at) + 1;
                input.drain(at..end);
            }
            6 if at < input.len() => {
                let part = input[at..=at + self.below((input.len() - at).min(64))].to_vec();
                let again = self.below(8) + 1;
                input.splice(at..at, part.repeat(again));
            }
            7 => {
                let other = self.pick(seeds);
                let from = self.below(other.len() + 1);
                let part = &other[from..from + self.below((other.len() - from).min(64) + 1)];
                input.splice(at..at, part.iter().copied());
            }
            _ => {
                let other = self.pick(seeds);
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }

    /// Overwrites one, two, four or eight bytes with one of [`NUMBERS`].
    fn overwrite(&mut self, input: &mut [u8], at: usize) {
        let number = self.pick(&NUMBERS).to_le_bytes();
        let width = 1 << self.below(4);
        for (byte, new) in input[at..].iter_mut().zip(&number[..width]) {
            *byte = *new;
        }
    }
}

/// Returns the seed that the environment variable `SEED` gives, or 1.
pub fn seed_from_env() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Returns the target that the environment variable `TARGET` names, or all of them.
pub fn chosen(targets: &[&'static Target]) -> Vec<&'static Target> {
    let name = std::env::var("TARGET").ok();
    targets.iter().copied().filter(|it| name.as_ref().is_none_or(|name| name == it.name)).collect()
}

/// How long one target is driven.
#[derive(Debug, Clone, Copy)]
pub enum Effort {
    /// For so many inputs.
    Inputs(u64),
    /// For so long.
    Time(Duration),
}

impl Effort {
    /// Returns the seconds that the environment variable `FUZZ_SECONDS` gives, or else `inputs`.
    pub fn from_env(inputs: u64) -> Self {
        let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
        seconds.map_or(Self::Inputs(inputs), |seconds| Self::Time(Duration::from_secs(seconds)))
    }

    fn is_over(self, inputs: u64, since: Instant) -> bool {
        match self {
            Self::Inputs(most) => inputs >= most,
            Self::Time(most) => since.elapsed() >= most,
        }
    }
}

/// What became of many inputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// How many were run.
    pub inputs: u64,
    /// How many of them were decoded.
    pub decoded: u64,
    /// Most memory that decoding one of them held at once, bytes.
    pub peak: usize,
}

impl Tally {
    /// Returns the figures in one line.
    pub fn line(&self, target: &Target) -> String {
        let Self { inputs, decoded, peak } = *self;
        let most = target.memory_limit();
        format!(
            "{:16} {inputs:>10} inputs, {decoded:>9} decoded, most memory {peak:>7} of {most} bytes",
            target.name
        )
    }

    fn add(&mut self, ran: Ran) {
        self.inputs += 1;
        self.decoded += u64::from(ran.decoded);
        self.peak = self.peak.max(ran.peak);
    }
}

/// Checks a decoder's promises on its tables: its seeds, whole, cut off and with a number written into them,
/// its hostile inputs, and one byte repeated.
pub fn tables(target: &Target) -> Tally {
    let mut tally = Tally::default();
    let mut run = |what: &str, input: &[u8]| {
        let ran = run_or_say(target, what, input);
        tally.add(ran);
        ran.decoded
    };
    for (index, seed) in (target.seeds)().iter().enumerate() {
        assert!(run("a seed", seed), "{}: seed {index} is refused", target.name);
        // Long seeds repeat themselves: up to four hundred places in them show as much as all would.
        for at in (0..seed.len()).step_by(seed.len() / 400 + 1) {
            run("a seed cut off", &seed[..at]);
            for number in [u64::MAX, target.limit as u64, 1 << 20] {
                let mut input = seed.clone();
                for (byte, new) in input[at..].iter_mut().zip(number.to_le_bytes()) {
                    *byte = new;
                }
                run("a seed with a number", &input);
            }
        }
    }
    for (what, input) in (target.hostile)() {
        assert!(!run(what, &input), "{}: {what} is accepted", target.name);
    }
    for byte in [0, 1, 0x7f, 0x80, 0xff] {
        run("one byte for ever", &vec![byte; target.limit]);
        run("one byte, and too much of it", &vec![byte; target.limit + 1]);
    }
    tally
}

/// Runs a decoder on inputs that follow from `seed`.
pub fn drive(target: &Target, seed: u64, effort: Effort) -> Tally {
    let seeds = (target.seeds)();
    let (mut mutator, mut tally, since) = (Mutator::new(seed), Tally::default(), Instant::now());
    while !effort.is_over(tally.inputs, since) {
        let input = mutator.input(&seeds, target.limit);
        tally.add(run_or_say(target, "a mutation", &input));
    }
    tally
}

/// Runs one input. If that panics, panics again with a message that names the target and shows the input.
fn run_or_say(target: &Target, what: &str, input: &[u8]) -> Ran {
    catch_unwind(AssertUnwindSafe(|| target.run(input))).unwrap_or_else(|_| {
        let shown = &input[..input.len().min(4096)];
        panic!("{}: {what} of {} bytes breaks a promise: {shown:02x?}", target.name, input.len())
    })
}
