//! `node check`: reads a swarm config or a program.md and says what it means, or the one thing that is wrong
//! with it.

use std::{fmt::Write, fs, path::Path};

use anyhow::Context;
use autoswarm_protocol::{
    KnobGroup, SwarmConfig,
    knobs::KNOBS,
    swarm_config::{CorpusSource, Objective, TokenizerRule},
};

use super::common::print;
use crate::{
    base::{hint::hinted, words},
    cli::args::CheckArgs,
    proposers::program::Direction,
};

/// Longest file that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Checks a file, or the swarm config of that name in `built_in`, and prints what it means.
pub fn run(args: &CheckArgs, built_in: &[(&str, &str)]) -> anyhow::Result<()> {
    let path = Path::new(&args.file);
    let text = match built_in.iter().find(|(name, _)| *name == args.file) {
        Some((_, text)) => (*text).to_owned(),
        None => read(path, built_in)?,
    };
    let is_program = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("md"));
    let meaning = if is_program { program(&text)? } else { swarm_config(&text)? };
    print(&format!("{} is good\n\n{meaning}", args.file))
}

fn read(path: &Path, built_in: &[(&str, &str)]) -> anyhow::Result<String> {
    let shown = path.display();
    if !path.exists() {
        let names: Vec<&str> = built_in.iter().map(|(name, _)| *name).collect();
        return Err(hinted(
            format!("there is no file `{shown}`, and no built-in swarm config of that name"),
            format!("built in are: {}", names.join(", ")),
        ));
    }
    let metadata = fs::metadata(path).with_context(|| format!("cannot read `{shown}`"))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(hinted(
            format!("`{shown}` is not a file of at most 1 MB"),
            "give a swarm config (.toml) or a program.md",
        ));
    }
    fs::read_to_string(path).with_context(|| format!("cannot read `{shown}`"))
}

fn program(text: &str) -> anyhow::Result<String> {
    let direction = Direction::parse(text)?;
    let mut lines = vec![format!("changes    {direction}")];
    if direction.restricts() {
        for group in KnobGroup::ALL {
            let names: Vec<&str> = KNOBS
                .iter()
                .filter(|row| row.group == group && direction.permits(row.knob))
                .map(|row| row.name)
                .collect();
            if !names.is_empty() {
                lines.push(format!("  {:<9}{}", group.name(), names.join(" ")));
            }
        }
    }
    let words = direction.prose.split_whitespace().count() as u32;
    lines.push(format!("prose      {}", words::plural(words, "word")));
    Ok(lines.join("\n") + "\n")
}

fn swarm_config(text: &str) -> anyhow::Result<String> {
    let config = SwarmConfig::parse(text)?;
    let objective = &config.objective;
    let mut lines = vec![format!("name       {}", words::clean(&config.name))];
    if !config.description.is_empty() {
        lines.push(format!("about      {}", words::clean(&config.description)));
    }
    lines.push(format!("objective  {}", objective.id()));
    lines.push(format!(
        "metric     val_bpb over {} tokens, context {}",
        objective.evaluation_tokens, objective.context
    ));
    lines.push(format!("corpus     {}", corpus(objective)));
    lines.push(match objective.tokenizer {
        TokenizerRule::Bytes => "tokens     bytes".to_owned(),
        TokenizerRule::Bpe(size) => format!("tokens     byte pairs, vocabulary {size}"),
    });
    lines.push(match objective.budget {
        None => "budget     by the machine's class, 75 to 300 s a run".to_owned(),
        Some(budget) => format!("budget     {}", words::budget(budget, 0.0)),
    });
    lines.push(format!("numbers    {}", objective.dtype));
    lines.push(format!("min effect {} bpb, for a change that adds something", objective.min_effect));
    lines.push(format!("baseline   {}", baseline(objective)));
    lines.push(search(objective));
    lines.push(format!("priors     {}", if objective.priors { "used" } else { "not used" }));
    lines.push(format!("bootstrap  {}", words::plural(config.bootstrap.len() as u32, "peer")));
    Ok(lines.join("\n") + "\n")
}

fn corpus(objective: &Objective) -> String {
    let source = match &objective.corpus {
        CorpusSource::Crates => "the pinned list of crates".to_owned(),
        CorpusSource::Path(path) => format!("your text at {}", words::clean(path)),
    };
    match objective.corpus_hash {
        Some(hash) => format!("{source}, pinned to {}", hash.fmt_short()),
        None => format!("{source}, not pinned"),
    }
}

fn baseline(objective: &Objective) -> String {
    let toml = objective.baseline.to_toml();
    let set: Vec<&str> = toml.lines().take_while(|line| !line.is_empty()).collect();
    if set.is_empty() { "calibrated to the machine".to_owned() } else { set.join(", ") }
}

fn search(objective: &Objective) -> String {
    let open = KNOBS.iter().filter(|row| objective.is_searchable(row.knob)).count();
    let mut text = format!("search     {open} of {} knobs", KNOBS.len());
    for (name, range) in &objective.ranges {
        let gap = if range.len() == 2 { "…" } else { " | " };
        // Writing to a string cannot fail.
        let _ = write!(text, ", {name} in {}", range.join(gap));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
name = "test"
description = "a test"
[objective]
metric = "val_bpb"
corpus = { source = "crates" }
evaluation = { context = 256, tokens = 262144 }
budget = "20s"
baseline = { depth = 2 }
search = { frozen = ["dropout"], ranges = { depth = [1, 8] } }
"#;

    #[test]
    fn a_swarm_config_says_what_it_means() {
        insta::assert_snapshot!(swarm_config(CONFIG).expect("valid"));
    }

    #[test]
    fn a_program_says_what_it_means() {
        let text = "+++\nfocus = [\"init\", \"depth\"]\navoid = [\"init_kind\"]\n\
                    scope = \"narrow\"\n+++\nBe bold.\n";
        insta::assert_snapshot!(program(text).expect("valid"));
    }

    #[track_caller]
    fn refused(error: &anyhow::Error, parts: &[&str]) {
        let text = format!("{error:#}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }

    #[test]
    fn the_one_error_names_the_line_or_the_key_and_what_would_be_right() {
        let bad = |from: &str, to: &str| swarm_config(&CONFIG.replace(from, to)).expect_err("wrong");
        refused(&bad("budget =", "budgett ="), &["line 8", "budgett", "budget"]);
        refused(&bad("context = 256", "context = 250"), &["objective.evaluation.context", "power of two"]);
        refused(&bad("depth = 2", "depht = 2"), &["objective.baseline", "did you mean `depth`"]);
        let broken = program("+++\nfocus = [\"itin\"]\n+++\n").expect_err("wrong");
        refused(&broken, &["line 2", "itin", "init"]);
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let missing = read(&folder.path().join("x.toml"), &[("default", "")]).expect_err("missing");
        refused(&missing, &["there is no file", "x.toml"]);
        refused(&read(folder.path(), &[]).expect_err("a folder"), &["not a file"]);
        let binary = folder.path().join("b.toml");
        fs::write(&binary, b"\xff\xfe").expect("written");
        refused(&read(&binary, &[]).expect_err("binary"), &["b.toml"]);
    }
}
