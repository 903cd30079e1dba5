//! Range checks of a decoded body: what no honest author writes is refused.
//!
//! Such are values out of range, empty lists and text with control characters. Not here: how long lists and
//! texts may be, which is checked while they are decoded.

use super::{Attestation, Body, Claim, Digest, Discovery, Hardware, MAX_CLAIM_SECONDS};
use crate::{Budget, Estimate, Hypothesis, Patch, TrainConfig, swarm_config::Objective};

/// Largest difference that two finite losses can have, bits per byte: a run above 100 nats is a crash.
const MAX_DELTA: f64 = 150.0;
/// Most pairs of one estimate.
const MAX_PAIRS: u16 = 10_000;
/// Most training tokens: a year of a rack.
const MAX_TOKENS: u64 = 1 << 48;

/// Checks a decoded body; the error is one line that says what is wrong.
pub(super) fn body(body: &Body, objective: &Objective) -> Result<(), String> {
    match body {
        Body::Discovery(discovery) => check_discovery(discovery, objective),
        Body::Attestation(attestation) => check_attestation(attestation),
        Body::Digest(digest) => check_digest(digest),
        Body::Claim(claim) => check_claim(claim),
    }
}

fn check_discovery(discovery: &Discovery, objective: &Objective) -> Result<(), String> {
    let Discovery { budget, hardware, config, patch, estimate, audit, tokens, seconds, curve, .. } =
        discovery;
    ensure(!matches!(budget, Budget::Class(class) if *class > 24), "the budget's class")?;
    check_hardware(hardware)?;
    is_executed(config, objective, "the config")?;
    ensure(!patch.is_empty(), "an empty patch")?;
    for (knob, change) in patch.iter() {
        ensure(objective.is_searchable(knob), "a frozen knob changed")?;
        ensure(objective.allows(knob, change.to), "a value outside the search's range")?;
    }
    let parent = discovery.parent().ok_or("the patch does not lead to the config")?;
    is_executed(&parent, objective, "the parent")?;
    check_estimate(estimate)?;
    audit.as_ref().map_or(Ok(()), check_estimate)?;
    check_tokens(*tokens)?;
    ensure(seconds.is_finite() && (0.0..1e7).contains(seconds), "the seconds")?;
    ensure(curve.iter().all(|loss| loss.is_finite()), "the curve")?;
    ensure(
        discovery.because == Hypothesis::one_line(&discovery.because),
        "the hypothesis is not one clean line",
    )
}

fn check_attestation(attestation: &Attestation) -> Result<(), String> {
    check_hardware(&attestation.hardware)?;
    attestation.tokens.map_or(Ok(()), check_tokens)?;
    attestation.found.as_ref().map_or(Ok(()), check_estimate)
}

fn check_digest(digest: &Digest) -> Result<(), String> {
    ensure(!digest.lines.is_empty(), "the number of results")?;
    for line in &digest.lines {
        ensure(!Patch::is_empty(&line.patch), "an empty patch")?;
        line.found.as_ref().map_or(Ok(()), check_estimate)?;
    }
    Ok(())
}

fn check_claim(claim: &Claim) -> Result<(), String> {
    ensure((1..=MAX_CLAIM_SECONDS).contains(&claim.seconds), "the seconds of a claim")
}

/// Checks that a config is as it is executed, so that one model travels in one spelling only.
fn is_executed(config: &TrainConfig, objective: &Objective, what: &str) -> Result<(), String> {
    let executed = config.effective(objective.context as usize);
    ensure(*executed == *config, &format!("{what} is not as it would be executed"))
}

fn check_hardware(hardware: &Hardware) -> Result<(), String> {
    let Hardware { device, threads, slots, tokens_per_second } = hardware;
    ensure(*device == Hypothesis::one_line(device), "the device's name")?;
    ensure(*threads > 0 && *slots > 0, "the slots")?;
    ensure(tokens_per_second.is_finite() && *tokens_per_second > 0.0, "the throughput")
}

fn check_estimate(estimate: &Estimate) -> Result<(), String> {
    let Estimate { delta, standard_error, pairs } = estimate;
    // A NaN fails each of these comparisons too.
    ensure(delta.abs() <= MAX_DELTA, "a difference")?;
    ensure((0.0..=MAX_DELTA).contains(standard_error), "a standard error")?;
    ensure((1..=MAX_PAIRS).contains(pairs), "the number of pairs")
}

fn check_tokens(tokens: (u64, u64)) -> Result<(), String> {
    ensure((1..MAX_TOKENS).contains(&tokens.0) && (1..MAX_TOKENS).contains(&tokens.1), "the tokens")
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}
