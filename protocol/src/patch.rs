//! Patches: the difference between two train configs, small and canonical: `matrix_lr 0.04 → 0.03`.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    codec::bounded,
    knobs::{KNOBS, Knob, KnobGroup},
    train_config::{ConfigError, TrainConfig, Value, find_knob, parse_value},
};

/// One knob's change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The parent's value.
    pub from: Value,
    /// The child's value.
    pub to: Value,
}

/// The difference from a parent config: for each knob that differs, its old and its new value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Patch {
    changes: BTreeMap<Knob, Change>,
}

/// Why a patch cannot be read or applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PatchError {
    /// A part of the text is not `knob old → new`.
    #[error("cannot read `{0}` as a change; write `knob old → new` or `knob new`, separated by commas")]
    Syntax(String),
    /// An unknown knob or a value out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The config's value is not the one that the patch starts from.
    #[error("the patch changes `{knob}` from {expected}, but the config has {found}")]
    Mismatch {
        /// The knob whose value is another.
        knob: Knob,
        /// The value that the patch starts from.
        expected: String,
        /// The value in the config.
        found: String,
    },
    /// The text changes one knob twice.
    #[error("the patch changes `{0}` twice")]
    Twice(Knob),
}

impl Patch {
    /// Returns the difference from `parent` to `child`.
    pub fn between(parent: &TrainConfig, child: &TrainConfig) -> Self {
        let changes = parent
            .differing(child)
            .into_iter()
            .map(|knob| (knob, Change { from: parent.get(knob), to: child.get(knob) }))
            .collect();
        Self { changes }
    }

    /// Returns whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the number of knobs changed.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Iterates over the changes in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (Knob, Change)> + '_ {
        self.changes.iter().map(|(&knob, &change)| (knob, change))
    }

    /// Applies the patch to the config that it starts from.
    pub fn apply(&self, parent: &TrainConfig) -> Result<TrainConfig, PatchError> {
        for (knob, change) in self.iter() {
            if parent.get(knob) != change.from {
                return Err(PatchError::Mismatch {
                    knob,
                    expected: change.from.display(knob).to_string(),
                    found: parent.get(knob).display(knob).to_string(),
                });
            }
        }
        self.transplant(parent)
    }

    /// Sets the patch's new values on any config, whatever its own values are.
    pub fn transplant(&self, onto: &TrainConfig) -> Result<TrainConfig, PatchError> {
        self.iter().try_fold(onto.clone(), |config, (knob, change)| Ok(config.with(knob, change.to)?))
    }

    /// Returns the patch that leads back, from the child to the parent.
    #[must_use]
    pub fn invert(&self) -> Self {
        let changes =
            self.iter().map(|(knob, change)| (knob, Change { from: change.to, to: change.from })).collect();
        Self { changes }
    }

    /// Splits the patch into one patch per knob.
    pub fn split(&self) -> Vec<Self> {
        self.iter().map(|(knob, change)| Self { changes: BTreeMap::from([(knob, change)]) }).collect()
    }

    /// Returns the group whose noise applies to the patch: the first among its knobs' groups, in the order
    /// shape, schedule, optimizer, init.
    pub fn group(&self) -> KnobGroup {
        self.changes.keys().map(|knob| knob.group()).min().unwrap_or(KnobGroup::Init)
    }

    /// Reads changes relative to `parent`, such as `matrix_lr 0.04 → 0.03, depth 3`.
    ///
    /// Instead of `→` there may be `->`, `=` or `:`. A change to the value that `parent` has already is left
    /// out, so the patch may be empty.
    pub fn parse(text: &str, parent: &TrainConfig) -> Result<Self, PatchError> {
        let mut child = parent.clone();
        let mut seen = Vec::new();
        for part in text.split([',', ';', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
            let (knob, from, to) = parse_change(part)?;
            if seen.contains(&knob) {
                return Err(PatchError::Twice(knob));
            }
            seen.push(knob);
            if let Some(from) = from
                && parent.get(knob) != from
            {
                return Err(PatchError::Mismatch {
                    knob,
                    expected: from.display(knob).to_string(),
                    found: parent.get(knob).display(knob).to_string(),
                });
            }
            child = child.with(knob, to)?;
        }
        if seen.is_empty() {
            return Err(PatchError::Syntax(text.chars().take(80).collect()));
        }
        Ok(Self::between(parent, &child))
    }
}

fn parse_change(part: &str) -> Result<(Knob, Option<Value>, Value), PatchError> {
    let syntax = || PatchError::Syntax(part.chars().take(80).collect());
    let spaced = part.replace("->", " ").replace(['→', '=', ':'], " ");
    // One word more than a change may have is enough to refuse it; a hostile text may have thousands.
    let words = spaced.split_whitespace().take(4);
    let words: Vec<&str> = words.map(|word| word.trim_matches(['"', '`'])).collect();
    match words[..] {
        [name, to] => {
            let knob = find_knob(name)?;
            Ok((knob, None, parse_value(knob, to)?))
        }
        [name, from, to] => {
            let knob = find_knob(name)?;
            Ok((knob, Some(parse_value(knob, from)?), parse_value(knob, to)?))
        }
        _ => Err(syntax()),
    }
}

impl fmt::Display for Patch {
    /// Prints `matrix_lr 0.04 → 0.03, depth 2 → 3`, or `no change`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no change");
        }
        for (index, (knob, change)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{knob} {} → {}", change.from.display(knob), change.to.display(knob))?;
        }
        Ok(())
    }
}

impl Serialize for Patch {
    /// Writes a list of `(knob, from, to)` with the values as text. The knob is its id on the wire and its
    /// name in people's formats.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (from, to) = self.iter().fold((Vec::new(), Vec::new()), |(mut from, mut to), (knob, change)| {
            from.push(change.from.display(knob).to_string());
            to.push(change.to.display(knob).to_string());
            (from, to)
        });
        let knobs: Vec<u16> = self.changes.keys().map(|knob| knob.id()).collect();
        if serializer.is_human_readable() {
            let triples: Vec<(&str, &String, &String)> =
                self.changes.keys().zip(from.iter().zip(&to)).map(|(k, (f, t))| (k.name(), f, t)).collect();
            triples.serialize(serializer)
        } else {
            let triples: Vec<(u16, String, String)> =
                knobs.into_iter().zip(from.into_iter().zip(to)).map(|(k, (f, t))| (k, f, t)).collect();
            triples.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Patch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let triples = Vec::<(String, String, String)>::deserialize(deserializer)?;
            let triples = triples.iter().map(|(name, from, to)| {
                Ok((find_knob(name).map_err(de::Error::custom)?, from.as_str(), to.as_str()))
            });
            Self::from_triples(triples)
        } else {
            let triples: Vec<(u16, &str, &str)> = bounded::list::<{ KNOBS.len() }, _, _>(deserializer)?;
            let lacking = || de::Error::custom("the patch names a knob that this version lacks");
            let triples = triples
                .into_iter()
                .map(|(id, from, to)| Ok((Knob::from_id(id).ok_or_else(lacking)?, from, to)));
            Self::from_triples(triples)
        }
    }
}

impl Patch {
    /// Reads what [`Serialize`] wrote; refuses knobs out of order and changes from a value to itself.
    fn from_triples<'a, E: de::Error>(
        triples: impl Iterator<Item = Result<(Knob, &'a str, &'a str), E>>,
    ) -> Result<Self, E> {
        let mut changes = BTreeMap::new();
        for triple in triples {
            let (knob, from, to) = triple?;
            let read = |text| parse_value(knob, text).map_err(E::custom);
            let change = Change { from: read(from)?, to: read(to)? };
            if change.from == change.to || changes.keys().next_back().is_some_and(|&last| last >= knob) {
                return Err(E::custom("the patch is not canonical"));
            }
            changes.insert(knob, change);
        }
        Ok(Self { changes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::train_config::tests::any_config;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let printed = match Patch::parse(text, &TrainConfig::new()) {
            Ok(patch) => patch.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(printed, expected);
    }

    #[test]
    fn patches_parse_and_print() {
        check("matrix_lr 0.04 → 0.03", "matrix_lr 0.04 → 0.03");
        check("matrix_lr=0.03, depth 4 -> 2", "depth 4 → 2, matrix_lr 0.04 → 0.03");
        check("depth 4", "no change");
        check("activation: swiglu", "activation relu2 → swiglu");
        check("depth 3 → 2", "the patch changes `depth` from 3, but the config has 4");
        check("depth 2, depth 3", "the patch changes `depth` twice");
        check("make it better", "unknown knob `make`");
        check(
            "depth",
            "cannot read `depth` as a change; write `knob old → new` or `knob new`, separated by commas",
        );
        check("", "cannot read `` as a change; write `knob old → new` or `knob new`, separated by commas");
    }

    #[test]
    fn the_group_of_a_patch_is_the_noisiest() {
        let patch = Patch::parse("matrix_lr 0.03, width 64", &TrainConfig::new()).expect("valid");
        assert_eq!(patch.group(), KnobGroup::Shape);
        assert_eq!(patch.split().len(), 2);
    }

    proptest! {
        #[test]
        fn a_patch_leads_there_and_back(a in any_config(), b in any_config()) {
            let ab = Patch::between(&a, &b);
            prop_assert_eq!(ab.apply(&a), Ok(b.clone()));
            prop_assert_eq!(ab.invert().apply(&b), Ok(a.clone()));
            if !ab.is_empty() {
                prop_assert_eq!(Patch::parse(&ab.to_string(), &a), Ok(ab.clone()));
            }
            let json = serde_json::to_string(&ab).expect("serializable");
            prop_assert_eq!(serde_json::from_str::<Patch>(&json).expect("readable"), ab);
        }
    }
}
