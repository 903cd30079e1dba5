//! program.md: a person's direction for the research, as prose and a small TOML front matter.
//!
//! ```text
//! +++
//! focus = ["schedule", "matrix_lr"]   only these groups and knobs are changed
//! avoid = ["dropout"]                 these are left alone
//! scope = "narrow"                    narrow: one knob; focused: two or three; broad: more
//! +++
//! Prose for the language model.
//! ```
//!
//! Each key is optional. The file is read again for each proposal, so an edit steers a running node. A file
//! without front matter is all prose. Where a group and one of its knobs disagree, the knob wins.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use autoswarm_protocol::{Knob, KnobGroup, knobs::KNOBS, train_config::nearest};

/// The program.md that is used if nobody wrote another.
pub const BUILT_IN: &str = include_str!("../../../program.md");

/// The line before and after the front matter.
const FENCE: &str = "+++";
/// The keys that the front matter may have.
const KEYS: [&str; 3] = ["focus", "avoid", "scope"];
/// Longest program.md, bytes: as much as a small model's context holds beside the rest of the prompt.
const MAX_BYTES: usize = 64 * 1024;

/// How many knobs a proposal changes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// One knob.
    Narrow,
    /// Two or three knobs.
    Focused,
    /// Four knobs or more.
    Broad,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Narrow, Self::Focused, Self::Broad];

    /// Returns the name used in program.md.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Narrow => "narrow",
            Self::Focused => "focused",
            Self::Broad => "broad",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A person's direction, as read from a program.md.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Direction {
    /// Rank of each focused knob: 2 where it was named itself, 1 where its group was.
    focus: BTreeMap<Knob, u8>,
    /// Rank of each knob to leave alone, by the same rule.
    avoid: BTreeMap<Knob, u8>,
    /// How many knobs to change at once; none to let the search decide.
    pub scope: Option<Scope>,
    /// What the person wrote for the language model.
    pub prose: String,
}

/// Why a program.md cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("program.md line {line}: {what}; {fix}")]
pub struct ProgramError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
    /// How to put it right.
    pub fix: String,
}

fn error(line: usize, what: impl Into<String>, fix: impl Into<String>) -> ProgramError {
    ProgramError { line, what: what.into(), fix: fix.into() }
}

impl Direction {
    /// Parses a program.md.
    pub fn parse(text: &str) -> Result<Self, ProgramError> {
        if text.len() > MAX_BYTES {
            return Err(error(
                1,
                format!("it has {} bytes", text.len()),
                format!("keep it below {MAX_BYTES}"),
            ));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let Some((front, start, prose)) = split(text)? else {
            return Ok(Self { prose: text.trim().to_owned(), ..Self::default() });
        };
        let lines = Lines { front: &front, start };
        let table: toml::Table = front.parse().map_err(|broken: toml::de::Error| lines.syntax(&broken))?;
        let mut direction = Self { prose, ..Self::default() };
        for (key, value) in &table {
            match key.as_str() {
                "focus" => direction.focus = lines.knobs(key, value)?,
                "avoid" => direction.avoid = lines.knobs(key, value)?,
                "scope" => direction.scope = Some(lines.scope(value)?),
                _ => return Err(lines.unknown_key(key)),
            }
        }
        if let Some((knob, _)) =
            direction.focus.iter().find(|(knob, rank)| direction.avoid.get(knob) == Some(rank))
        {
            let named =
                |rank| if rank == 2 { format!("`{knob}`") } else { format!("the group `{}`", knob.group()) };
            return Err(error(
                lines.of("avoid"),
                format!("{} is in `focus` and in `avoid`", named(direction.focus[knob])),
                "drop one of the two",
            ));
        }
        Ok(direction)
    }

    /// Returns whether proposals may change a knob.
    pub fn permits(&self, knob: Knob) -> bool {
        let focus = self.focus.get(&knob).copied().unwrap_or(0);
        let avoid = self.avoid.get(&knob).copied().unwrap_or(0);
        // The higher rank wins: a knob that was named itself over its group.
        avoid <= focus && (focus > 0 || self.focus.is_empty())
    }

    /// Returns whether any knob is focused or avoided.
    pub fn restricts(&self) -> bool {
        !self.focus.is_empty() || !self.avoid.is_empty()
    }
}

impl fmt::Display for Direction {
    /// Prints `all knobs`, or how many knobs may be changed, and the scope.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permitted = KNOBS.iter().filter(|row| self.permits(row.knob)).count();
        match permitted {
            count if count == KNOBS.len() => f.write_str("all knobs")?,
            1 => f.write_str("1 knob")?,
            count => write!(f, "{count} knobs")?,
        }
        match self.scope {
            Some(scope) => write!(f, ", scope {scope}"),
            None => Ok(()),
        }
    }
}

/// Splits a text into the front matter, the line that it starts on, and the prose; none if all is prose.
fn split(text: &str) -> Result<Option<(String, usize, String)>, ProgramError> {
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| line.trim().is_empty());
    let Some((opening, first)) = lines.next() else { return Ok(None) };
    if first.trim_end() != FENCE {
        if first.trim() == "---" && text.lines().skip(opening + 1).any(|line| line.trim() == "---") {
            return Err(error(
                opening + 1,
                "the front matter is enclosed in `---`",
                format!("write it as TOML between two lines of `{FENCE}`"),
            ));
        }
        return Ok(None);
    }
    let mut front = String::new();
    for (_, line) in lines.by_ref() {
        if line.trim_end() == FENCE {
            let prose: Vec<&str> = lines.map(|(_, line)| line).collect();
            return Ok(Some((front, opening + 2, prose.join("\n").trim().to_owned())));
        }
        front.push_str(line);
        front.push('\n');
    }
    Err(error(
        opening + 1,
        format!("the front matter that `{FENCE}` opens has no end"),
        format!("close it with a line of `{FENCE}`"),
    ))
}

/// The front matter and its first line number, for errors that name a line.
struct Lines<'a> {
    front: &'a str,
    start: usize,
}

impl Lines<'_> {
    /// Returns the line that sets a key.
    fn of(&self, key: &str) -> usize {
        let defines = |line: &str| {
            line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        self.start + self.front.lines().position(defines).unwrap_or(0)
    }

    fn syntax(&self, broken: &toml::de::Error) -> ProgramError {
        let at = broken.span().map_or(0, |span| span.start.min(self.front.len()));
        let before = self.front.get(..at).unwrap_or_default().matches('\n').count();
        let message = broken.message().trim().replace('\n', ", ");
        error(
            self.start + before,
            format!("not TOML: {message}"),
            "write `key = value`, with names in quotes",
        )
    }

    fn unknown_key(&self, key: &str) -> ProgramError {
        let fix = match nearest(key, KEYS.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the keys are {}", KEYS.join(", ")),
        };
        error(self.of(key), format!("unknown key `{key}`"), fix)
    }

    /// Reads a list of knobs and groups: rank 2 for a knob that is named itself, 1 for one whose group is.
    fn knobs(&self, key: &str, value: &toml::Value) -> Result<BTreeMap<Knob, u8>, ProgramError> {
        let example = format!("write {key} = [\"optimizer\", \"depth\"]");
        let Some(list) = value.as_array() else {
            return Err(error(self.of(key), format!("`{key}` is no list"), example));
        };
        let mut knobs = BTreeMap::new();
        for entry in list {
            let Some(name) = entry.as_str() else {
                return Err(error(
                    self.of(key),
                    format!("`{key}` holds `{entry}`, which is no name"),
                    example,
                ));
            };
            let group = KnobGroup::ALL.into_iter().find(|group| group.name() == name);
            if let Some(knob) = Knob::from_name(name) {
                knobs.insert(knob, 2);
            } else if let Some(group) = group {
                for row in KNOBS.iter().filter(|row| row.group == group) {
                    knobs.entry(row.knob).or_insert(1);
                }
            } else {
                return Err(self.unknown_name(key, name));
            }
        }
        Ok(knobs)
    }

    fn unknown_name(&self, key: &str, name: &str) -> ProgramError {
        let names = KNOBS.iter().map(|row| row.name).chain(KnobGroup::ALL.into_iter().map(KnobGroup::name));
        let fix = match nearest(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "the groups are shape, schedule, optimizer and init; the knobs are in node/docs/knobs.md"
                .to_owned(),
        };
        let shown: String = name.chars().take(80).collect();
        error(self.of(key), format!("`{shown}` in `{key}` is neither a knob nor a group"), fix)
    }

    fn scope(&self, value: &toml::Value) -> Result<Scope, ProgramError> {
        let found = value.as_str().and_then(|text| Scope::ALL.into_iter().find(|scope| scope.name() == text));
        found.ok_or_else(|| {
            error(
                self.of("scope"),
                format!("`scope` cannot be {value}"),
                "use \"narrow\", \"focused\" or \"broad\"",
            )
        })
    }
}

/// Where a program.md was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramSource {
    /// A file on this machine.
    File(PathBuf),
    /// The one that is compiled in.
    BuiltIn,
}

impl fmt::Display for ProgramSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::BuiltIn => f.write_str("the built-in program.md"),
        }
    }
}

/// Returns which program.md applies: the one asked for, else the first that exists of those in `folder` and
/// in `home`, else the built-in one. One that was asked for applies even if it does not exist, so that
/// reading it says what is wrong.
pub fn locate(
    asked: Option<&Path>,
    folder: &Path,
    home: &Path,
    exists: impl Fn(&Path) -> bool,
) -> ProgramSource {
    if let Some(path) = asked {
        return ProgramSource::File(path.to_owned());
    }
    let candidates = [folder.join("program.md"), home.join("program.md")];
    candidates.into_iter().find(|path| exists(path)).map_or(ProgramSource::BuiltIn, ProgramSource::File)
}

/// Reads the text of a program.md.
pub fn read(source: &ProgramSource) -> io::Result<String> {
    match source {
        ProgramSource::File(path) => std::fs::read_to_string(path),
        ProgramSource::BuiltIn => Ok(BUILT_IN.to_owned()),
    }
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
