//! The benchmark for searches in other languages: JSON lines in, JSON lines out, one run at a time.
//!
//! ```text
//! ◀ {"axes":[{"knob":"depth","kind":"steps","low":…,"high":…,"start":…},
//!            {"knob":"norm","kind":"names",…}],"seconds":1800}
//! ▶ {"run":{"config":{"depth":2.5,"norm":"layer"},"seed":1}}   knobs that are not named stay as at the start
//! ◀ {"value":3.02,"training_seconds":5.01,"spent":5.01}        or {"crash":"diverged",…},
//!                                                              or {"misfit":"tokens"}, which costs nothing
//! ▶ {"end":"tpe"}
//! ◀ {"stories":[…]}                                            judged like every other method
//! ```
//!
//! `{"over":true}` answers a run for which too few seconds are left, `{"error":…}` a line that makes no
//! sense. The same config on the same seed is answered from memory, at no cost. Axes, account, predictor,
//! rules of choosing and judge are those of the methods here.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read, Write},
};

use anyhow::{Context, bail};
use autoswarm_protocol::{EffectiveConfig, id::ConfigHash, train_config::find_knob};
use serde::{Deserialize, Serialize};

use super::{
    Account, Axis, Kind, Spec, Story, axes,
    rivals::seed_of,
    screen::{Screen, reason},
    space::{effective, with_name, with_steps},
    stories,
};
use crate::ground::Ground;

/// Longest line of a question; one that names every knob takes 3 KB.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// A line from the search.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    /// Make a run.
    Run {
        config: BTreeMap<String, Setting>,
        #[serde(default = "first_seed")]
        seed: u64,
    },
    /// Judge what was found under this name, and end.
    End(String),
}

fn first_seed() -> u64 {
    super::rivals::SEED
}

/// A knob's value: steps, or a name.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Setting {
    Steps(f64),
    Name(String),
}

/// A line to the search.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Reply {
    Value { value: f64, training_seconds: f64, spent: f64 },
    Crash { crash: &'static str, training_seconds: f64, spent: f64 },
    Misfit { misfit: &'static str },
    Over { over: bool },
    Stories { stories: Vec<Story> },
    Error { error: String },
}

/// Answers questions until the other side ends the search or goes away.
pub fn serve(
    spec: &Spec,
    start: &EffectiveConfig,
    ground: &mut dyn Ground,
    mut input: impl BufRead,
    mut output: impl Write,
) -> anyhow::Result<()> {
    let mut oracle = Oracle::new(spec, start);
    let greeting = Greeting { axes: oracle.axes.values().collect(), seconds: spec.seconds };
    writeln!(output, "{}", serde_json::to_string(&greeting)?)?;
    output.flush()?;
    loop {
        let mut line = String::new();
        if input.by_ref().take(MAX_LINE_BYTES).read_line(&mut line)? == 0 {
            return Ok(());
        }
        if !line.ends_with('\n') && line.len() as u64 == MAX_LINE_BYTES {
            bail!("a line of more than {MAX_LINE_BYTES} bytes; send one question a line");
        }
        let reply = match serde_json::from_str(&line) {
            Ok(Question::Run { config, seed }) => match oracle.config(&config) {
                Ok(config) => oracle.run(&config, seed, ground)?,
                Err(error) => Reply::Error { error: format!("{error:#}") },
            },
            Ok(Question::End(name)) => {
                let stories = stories(&name, spec, start, &oracle.account, ground)?;
                writeln!(output, "{}", serde_json::to_string(&Reply::Stories { stories })?)?;
                return Ok(output.flush()?);
            }
            Err(error) => Reply::Error { error: error.to_string() },
        };
        writeln!(output, "{}", serde_json::to_string(&reply)?)?;
        output.flush()?;
    }
}

/// The first line: what may be moved, and the seconds there are.
#[derive(Debug, Serialize)]
struct Greeting<'a> {
    axes: Vec<&'a Axis>,
    seconds: f64,
}

struct Oracle {
    axes: BTreeMap<&'static str, Axis>,
    start: EffectiveConfig,
    repetition: u64,
    account: Account,
    screen: Option<Screen>,
    known: BTreeMap<(ConfigHash, u64), Reply>,
}

impl Oracle {
    fn new(spec: &Spec, start: &EffectiveConfig) -> Self {
        let axes = axes(start, spec.range).into_iter().map(|axis| (axis.knob.name(), axis));
        Self {
            axes: axes.collect(),
            start: start.clone(),
            repetition: spec.seed,
            account: Account::new(spec.seconds),
            screen: spec.predictor.then(|| Screen::new(start)),
            known: BTreeMap::new(),
        }
    }

    /// Returns the start with these settings; an error names the knob that is wrong.
    fn config(&self, settings: &BTreeMap<String, Setting>) -> anyhow::Result<EffectiveConfig> {
        let mut config = (*self.start).clone();
        for (name, setting) in settings {
            let knob = find_knob(name)?;
            let axis = self.axes.get(knob.name()).with_context(|| format!("`{name}` is not to be moved"))?;
            let set = match (&axis.kind, setting) {
                (Kind::Steps { low, high, .. }, Setting::Steps(steps)) if steps.is_finite() => {
                    with_steps(&config, knob, steps.clamp(*low, *high))
                }
                (Kind::Names { .. }, Setting::Name(name)) => with_name(&config, knob, name),
                _ => None,
            };
            config = set.with_context(|| format!("`{name}` has no value {setting:?}"))?;
        }
        Ok(effective(&config))
    }

    fn run(&mut self, config: &EffectiveConfig, seed: u64, ground: &mut dyn Ground) -> anyhow::Result<Reply> {
        if self.account.is_empty() {
            return Ok(Reply::Over { over: true });
        }
        if let Some(reply) = self.known.get(&(config.hash(), seed)) {
            return Ok(reply.clone());
        }
        if let Some(misfit) = self.screen.as_ref().and_then(|screen| screen.misfit(config)) {
            return Ok(Reply::Misfit { misfit: reason(misfit) });
        }
        let Some(answer) = self.account.run(config, None, seed_of(self.repetition, seed), None, ground)?
        else {
            return Ok(Reply::Over { over: true });
        };
        if let Some(screen) = &mut self.screen {
            screen.observe(config, &answer.outcome);
        }
        let spent = self.account.spent();
        let reply = |training_seconds| match &answer.outcome {
            autoswarm_protocol::Outcome::Finished(report) => {
                Reply::Value { value: report.validation.get(), training_seconds, spent }
            }
            autoswarm_protocol::Outcome::Crashed(crash) => {
                Reply::Crash { crash: crash.class.name(), training_seconds, spent }
            }
            autoswarm_protocol::Outcome::Pruned(_) => unreachable!("a rival's runs have no bounds"),
        };
        // Asked again, the same run costs nothing.
        self.known.insert((config.hash(), seed), reply(0.0));
        Ok(reply(answer.seconds))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        chance::Chance,
        ground::SurfaceGround,
        search::Range,
        surrogate::{Surrogate, start},
    };

    /// Talks to an oracle of 12 training seconds, and returns all that it said.
    fn talk(lines: &[Value]) -> Vec<Value> {
        let surface = Surrogate::committed();
        let mut ground = SurfaceGround::new(&surface, Chance::new(1), vec![1.0]);
        let spec = Spec { seconds: 12.0, seed: 1, predictor: true, range: Range::Full, checkpoints: 2 };
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        let input = lines.join("\n");
        let mut output = Vec::new();
        serve(&spec, &start(), &mut ground, input.as_bytes(), &mut output).expect("no fault of the ground");
        let text = String::from_utf8(output).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn seconds_are_paid_once_a_run_and_then_it_is_over() {
        let run =
            |warmdown: f64| json!({"run": {"config": {"warmdown": warmdown, "norm": "rms"}, "seed": 1}});
        let said = talk(&[
            json!({"run": {"config": {}}}),
            json!({"run": {"config": {}}}),
            run(4.0),
            run(2.0),
            run(1.0),
            json!({"end": "by hand"}),
        ]);
        assert_eq!(said[0]["seconds"], 12.0);
        assert_eq!(said[1]["value"], said[2]["value"]);
        assert!(said[1]["spent"].as_f64() > Some(4.0), "{}", said[1]);
        assert_eq!(said[2]["training_seconds"], 0.0);
        assert!(said[3]["value"].as_f64() > Some(1.0), "{}", said[3]);
        assert_eq!((&said[4], &said[5]), (&json!({"over": true}), &json!({"over": true})));
        assert_eq!(said[6]["stories"][0]["method"], "by hand");
        assert_eq!(said[6]["stories"][0]["runs"], 2);
    }

    #[test]
    fn what_cannot_fit_is_free_and_nonsense_is_named() {
        let said = talk(&[
            json!({"run": {"config": {}}}),
            json!({"run": {"config": {"width": 100.0, "depth": 100.0}}}),
            json!({"run": {"config": {"widht": 1.0}}}),
            json!({"run": {"config": {"norm": 1.0}}}),
            json!({"walk": 1}),
        ]);
        assert!(said[2]["misfit"].is_string(), "{}", said[2]);
        for reply in &said[3..] {
            assert!(reply["error"].is_string(), "{reply}");
        }
    }
}
