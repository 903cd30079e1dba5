//! The probe: what this machine does in a second, measured once per slot shape and remembered.
//!
//! Three shapes of one model are priced: bound by launches, by matrix products, and by memory. The middle one is the
//! reference whose speed decides the budget's class (design: a class is a number of tokens, not of seconds).

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, anyhow};
use autoswarm_protocol::{
    Budget, CrashClass, EffectiveConfig, TrainConfig, TrainerEvent, outcome::TRAINER_SEMANTICS,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::{
    event_loop::RunPlan,
    experiment::{self, Control, Placement, RunBudget},
    files,
    research::RunOrder,
    settings::slot_name,
};

/// Seconds of budget that each shape is priced for; the trainer prices for about a second of it.
const PRICED_FOR: f64 = 10.0;

/// The shapes: name and config. Every knob not said is at its default.
const SHAPES: [(&str, &str); 3] = [
    ("launches", "depth = 2\nwidth = 64\nsequence_length = 128\nbatch_tokens = 2048"),
    ("reference", "depth = 4\nwidth = 128\nsequence_length = 256\nbatch_tokens = 4096"),
    ("products", "depth = 4\nwidth = 256\nsequence_length = 256\nbatch_tokens = 4096"),
];

/// Rests while other work takes the whole machine, before the probe gives up: ten minutes in all.
const MOST_RESTS: u32 = 40;
const REST: Duration = Duration::from_secs(15);

/// What a shape did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// Training throughput.
    pub tokens_per_second: f64,
    /// The same in FLOP/s.
    pub flops_per_second: f64,
}

/// What a machine's slot does in a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The slot's shape: device and threads.
    pub slot: String,
    /// The trainer's semantics number.
    pub semantics: u16,
    /// What each shape did.
    pub shapes: Vec<Shape>,
    /// The class, kept while the machine stays near it.
    pub class: u8,
}

impl Probe {
    /// Returns the reference config's throughput, tokens a second.
    pub fn tokens_per_second(&self) -> f64 {
        self.shapes
            .iter()
            .find(|shape| shape.name == "reference")
            .map_or(1.0, |shape| shape.tokens_per_second)
    }

    /// Returns the best FLOP/s of all shapes.
    pub fn flops_per_second(&self) -> f64 {
        self.shapes.iter().map(|shape| shape.flops_per_second).fold(1.0, f64::max)
    }

    /// Returns the budget of the machine's class with its seconds.
    pub fn budget(&self) -> (Budget, f64) {
        let (class, seconds) = Budget::class_of(self.tokens_per_second(), Some(self.class));
        (Budget::Class(class), seconds)
    }
}

/// Names a slot's shape: two slots of one shape share a probe.
fn shape_of(slot: &Placement) -> String {
    let device = slot_name(&Placement { cpus: Vec::new(), ..slot.clone() });
    format!("{device}/{}", slot.threads)
}

/// Returns what is remembered of this slot's shape.
pub fn remembered(file: &Path, slot: &Placement) -> Option<Probe> {
    let text = fs::read(file).ok()?;
    let probes: Vec<Probe> = serde_json::from_slice(&text).ok()?;
    let shape = shape_of(slot);
    probes.into_iter().find(|probe| probe.slot == shape && probe.semantics == TRAINER_SEMANTICS)
}

/// Remembers a probe beside those of other shapes.
pub fn remember(file: &Path, probe: &Probe) -> anyhow::Result<()> {
    let mut probes: Vec<Probe> =
        fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    probes.retain(|other| other.slot != probe.slot);
    probes.push(probe.clone());
    files::replace(file, &serde_json::to_vec_pretty(&probes)?)
        .with_context(|| format!("cannot remember the probe in `{}`", file.display()))
}

/// Measures the first slot. `done` hears how many of the shapes are through.
pub async fn measure(
    plan: &RunPlan,
    known: Option<&Probe>,
    mut done: impl FnMut(u64, u64),
) -> anyhow::Result<Probe> {
    let mut shapes = Vec::new();
    for (index, (name, toml)) in SHAPES.into_iter().enumerate() {
        done(index as u64, SHAPES.len() as u64);
        let config = TrainConfig::from_toml(toml)?.effective(plan.context as usize);
        shapes.push(price(plan, name, config).await?);
    }
    done(SHAPES.len() as u64, SHAPES.len() as u64);
    let slot = shape_of(&plan.slots[0]);
    let mut probe = Probe { slot, semantics: TRAINER_SEMANTICS, shapes, class: 0 };
    probe.class = Budget::class_of(probe.tokens_per_second(), known.map(|known| known.class)).0;
    Ok(probe)
}

async fn price(plan: &RunPlan, name: &str, config: EffectiveConfig) -> anyhow::Result<Shape> {
    let order = RunOrder {
        id: 0,
        number: 0,
        slot: 0,
        role: autoswarm_protocol::RunRole::Screen,
        pair: None,
        config,
        seed: 0,
        tokens: None,
        patch: autoswarm_protocol::Patch::default(),
    };
    let mut spec = plan.spec(&order);
    spec.budget = RunBudget::Seconds(PRICED_FOR);
    // The slowest machine must come through; its class says how slow it is.
    spec.min_steps = Some(1);
    let (sender, mut events) = mpsc::channel(64);
    let (_control, watch) = watch::channel(Control::Run);
    let mut rests = 0;
    let price = loop {
        let priced = experiment::price(spec.clone(), sender.clone(), watch.clone()).await;
        match priced.context("the probe was cancelled")? {
            Ok(price) => break price,
            Err(crash) if crash.class == CrashClass::Starved && rests < MOST_RESTS => {
                rests += 1;
                tokio::time::sleep(REST).await;
            }
            Err(crash) => {
                return Err(anyhow!(
                    "the probe's shape `{name}` gave no price: {} ({})",
                    crash.class,
                    crash.message
                ));
            }
        }
    };
    let mut flops_per_token = 0.0;
    while let Ok(progress) = events.try_recv() {
        if let TrainerEvent::Starting { flops_per_token: flops, .. } = progress.event {
            flops_per_token = flops;
        }
    }
    Ok(Shape {
        name: name.to_owned(),
        tokens_per_second: price.tokens_per_second,
        flops_per_second: price.tokens_per_second * flops_per_token,
    })
}
