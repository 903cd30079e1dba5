//! The flags of `node discoveries`, as typed.

use std::time::Duration;

use autoswarm_protocol::{Budget, train_config::find_knob};
use clap::{Args, Subcommand, ValueEnum};

use super::JsonFlag;
use crate::swarm::discoveries::{Sort, Status};

/// Flags of `discoveries`.
#[derive(Debug, Clone, Args)]
pub struct DiscoveriesArgs {
    /// What to do with them [default: list]
    #[command(subcommand)]
    pub action: Option<DiscoveriesAction>,

    /// Filters of the list.
    #[command(flatten)]
    pub list: DiscoveryListArgs,
}

/// What `discoveries` does.
#[derive(Debug, Clone, Subcommand)]
pub enum DiscoveriesAction {
    /// List them, newest last
    List(DiscoveryListArgs),
    /// Show one with its re-runs and its lineage
    Show(DiscoveryArgs),
    /// Show how one's config differs from this node's incumbent, or from its own parent
    Diff(DiffArgs),
    /// Print one's config to train from, or a table of all
    Export(ExportArgs),
}

/// Filters of a list of discoveries; all that are given must hold.
#[derive(Debug, Clone, Args)]
pub struct DiscoveryListArgs {
    /// Only those with this status
    #[arg(long, value_enum, value_name = "STATUS")]
    pub status: Option<Status>,

    /// Only those of the author whose id begins with these digits
    #[arg(long, value_name = "DIGITS", value_parser = parse_digits)]
    pub author: Option<String>,

    /// Only this node's own
    #[arg(long, conflicts_with = "foreign")]
    pub mine: bool,

    /// All but this node's own
    #[arg(long)]
    pub foreign: bool,

    /// Only those that change this knob
    #[arg(long, value_name = "KNOB", value_parser = parse_knob)]
    pub knob: Option<String>,

    /// Only those of this class of budget, or of this fixed budget, such as `20s`
    #[arg(long, value_name = "CLASS|DUR", value_parser = parse_class)]
    pub class: Option<Budget>,

    /// Only those of the arena whose id begins with these digits
    #[arg(long, value_name = "DIGITS", value_parser = parse_digits)]
    pub arena: Option<String>,

    /// Only those made within this time, such as `30m`, `12h` or `7d`
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    pub since: Option<Duration>,

    /// What comes first: the largest gain, the surest, the most re-run; `age` has the newest last
    #[arg(long, value_enum, value_name = "ORDER", default_value = "age")]
    pub sort: Sort,

    /// At most N: the first of the order, by age the newest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,

    /// How to print.
    #[command(flatten)]
    pub output: JsonFlag,
}

/// One discovery.
#[derive(Debug, Clone, Args)]
pub struct DiscoveryArgs {
    /// The first digits of its id
    #[arg(value_name = "ID")]
    pub id: String,

    /// How to print.
    #[command(flatten)]
    pub output: JsonFlag,
}

/// Flags of `discoveries diff`.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// Which, and how to print.
    #[command(flatten)]
    pub which: DiscoveryArgs,

    /// What to compare it with [default: this node's incumbent where it has one, else its parent]
    #[arg(long, value_enum, value_name = "CONFIG")]
    pub against: Option<Against>,
}

/// What a discovery's config is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Against {
    /// The best config of this node.
    Incumbent,
    /// The config that the discovery started from.
    Parent,
}

/// Flags of `discoveries export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// The first digits of its id; `--as tsv` without one has all
    #[arg(value_name = "ID", required_unless_present = "form")]
    pub id: Option<String>,

    /// For whom: a TOML config for `trainer train`, the same as JSON, a table for notebooks, or a diff for
    /// autoresearch
    #[arg(long = "as", id = "form", value_enum, value_name = "FORM", default_value = "toml")]
    pub form: ExportForm,

    /// The same as `--as json`
    #[arg(long, conflicts_with = "form")]
    pub json: bool,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportForm {
    /// The config as TOML, to train from.
    Toml,
    /// The config as one JSON object.
    Json,
    /// A tab-separated table.
    Tsv,
    /// A unified diff of the constants in karpathy/autoresearch's train.py.
    Autoresearch,
}

fn parse_digits(text: &str) -> Result<String, String> {
    let is_prefix = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_prefix
        .then(|| text.to_ascii_lowercase())
        .ok_or_else(|| format!("`{text}` does not begin an id: ids have hexadecimal digits, 64 at most"))
}

fn parse_knob(text: &str) -> Result<String, String> {
    find_knob(text).map(|knob| knob.name().to_owned()).map_err(|error| error.to_string())
}

/// Parses a class of budget by its number, or a fixed budget by its time.
fn parse_class(text: &str) -> Result<Budget, String> {
    match text.trim().parse() {
        Ok(class) => Ok(Budget::Class(class)),
        Err(_) => Budget::parse_duration(text)
            .map_err(|_| format!("`{text}` is no class: write its number, or a fixed budget such as `20s`")),
    }
}

/// Longest age that `--since` takes, days: a century.
const MAX_DAYS: f64 = 36_525.0;

fn parse_age(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    units
        .into_iter()
        .find_map(|(unit, seconds)| Some(text.strip_suffix(unit)?.trim().parse::<f64>().ok()? * seconds))
        .filter(|seconds| *seconds > 0.0 && *seconds <= MAX_DAYS * 86_400.0)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("`{text}` is not a time to look back: write `30m`, `12h` or `7d`"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn parse(line: &str) -> Result<DiscoveriesArgs, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Discoveries(args) = cli.command else { panic!("discoveries") };
        Ok(args)
    }

    #[test]
    fn a_list_takes_its_filters() {
        let args = parse(
            "node discoveries --status confirmed --author D932 --foreign --knob depth --class 3 --arena ab \
             --since 12h --sort surety --limit 5 --json",
        );
        let list = args.expect("valid").list;
        assert_eq!((list.status, list.sort, list.limit), (Some(Status::Confirmed), Sort::Surety, 5));
        assert_eq!((list.author.as_deref(), list.arena.as_deref()), (Some("d932"), Some("ab")));
        assert_eq!((list.class, list.knob.as_deref()), (Some(Budget::Class(3)), Some("depth")));
        assert_eq!(list.since, Some(Duration::from_hours(12)));
        assert!(list.foreign && !list.mine && list.output.json);
        let args = parse("node discoveries list --class 20s --sort re-runs").expect("valid");
        let Some(DiscoveriesAction::List(list)) = args.action else { panic!("list") };
        assert_eq!((list.class, list.sort), (Some(Budget::Milliseconds(20_000)), Sort::ReRuns));
    }

    #[test]
    fn an_export_has_a_form() {
        let form = |line: &str| match parse(line).map(|args| args.action) {
            Ok(Some(DiscoveriesAction::Export(args))) => Ok((args.id, args.form, args.json)),
            Ok(_) => panic!("export"),
            Err(error) => Err(error),
        };
        let id = Some("f2b7".to_owned());
        assert_eq!(form("node discoveries export f2b7"), Ok((id.clone(), ExportForm::Toml, false)));
        assert_eq!(form("node discoveries export f2b7 --json"), Ok((id.clone(), ExportForm::Toml, true)));
        let autoresearch = form("node discoveries export f2b7 --as autoresearch");
        assert_eq!(autoresearch, Ok((id, ExportForm::Autoresearch, false)));
        assert_eq!(form("node discoveries export --as tsv"), Ok((None, ExportForm::Tsv, false)));
        assert!(
            form("node discoveries export").is_err()
                && form("node discoveries export x --as tsv --json").is_err()
        );
    }

    #[track_caller]
    fn refuses(line: &str, because: &str) {
        let error = parse(line).expect_err("refused");
        assert!(error.contains(because), "{error}");
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        refuses("node discoveries --knob dept", "did you mean `depth`");
        refuses("node discoveries --class big", "`big` is no class");
        refuses("node discoveries --since soon", "`soon` is not a time to look back");
        refuses("node discoveries --since 0h", "write `30m`, `12h` or `7d`");
        refuses("node discoveries --author moon", "`moon` does not begin an id");
        refuses("node discoveries --mine --foreign", "cannot be used with");
        refuses("node discoveries --limit 0", "0 is not in 1..=10000");
        refuses("node discoveries diff f2b7 --against moon", "invalid value 'moon'");
    }
}
