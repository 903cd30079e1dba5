//! Tests of reading program.md: what a valid one means, and what is said about a broken one.

use super::*;

fn permitted(text: &str) -> Vec<&'static str> {
    let direction = Direction::parse(text).expect("valid");
    KNOBS.iter().filter(|row| direction.permits(row.knob)).map(|row| row.name).collect()
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let broken = Direction::parse(text).expect_err("broken");
    assert_eq!(broken.to_string(), expected);
}

#[test]
fn the_built_in_program_is_valid_and_every_name_in_it_exists() {
    let direction = Direction::parse(BUILT_IN).expect("valid");
    assert!(!direction.prose.is_empty());
    let groups = KnobGroup::ALL.map(KnobGroup::name);
    let mut named = 0;
    for (line, text) in BUILT_IN.lines().enumerate() {
        for name in text.split('`').skip(1).step_by(2) {
            if name.contains(char::is_whitespace) || name.contains(['.', '+']) {
                continue; // a command, a file or a value
            }
            let known = Knob::from_name(name).is_some() || groups.contains(&name) || KEYS.contains(&name);
            let choice = KNOBS.iter().any(|row| row.domain.choice(name).is_some());
            let word = ["val_bpb", "keep", "discard", "crash"].contains(&name);
            assert!(known || choice || word, "line {}: `{name}` does not exist", line + 1);
            named += usize::from(known);
        }
    }
    assert!(named >= 15, "{named}");
}

#[test]
fn prose_alone_and_an_empty_file_direct_nothing() {
    for text in ["", "# Find better models\n", "+++\n+++\nHello"] {
        let direction = Direction::parse(text).expect("valid");
        assert!(!direction.restricts(), "{text}");
        assert_eq!(permitted(text).len(), KNOBS.len());
    }
    assert_eq!(Direction::parse("+++\nscope = \"broad\"\n+++\n\nHello\n").expect("valid").prose, "Hello");
}

#[test]
fn focus_and_avoid_take_knobs_and_groups() {
    assert_eq!(permitted("+++\nfocus = [\"depth\", \"matrix_lr\"]\n+++"), ["depth", "matrix_lr"]);
    let schedule = permitted("+++\nfocus = [\"schedule\"]\n+++");
    assert!(schedule.contains(&"batch_tokens") && !schedule.contains(&"depth"), "{schedule:?}");
    assert!(!permitted("+++\navoid = [\"schedule\"]\n+++").contains(&"batch_tokens"));
    assert_eq!(permitted("+++\nfocus = [\"depth\"]\navoid = [\"shape\"]\n+++"), ["depth"]);
    assert!(!permitted("+++\nfocus = [\"shape\"]\navoid = [\"depth\"]\n+++").contains(&"depth"));
}

#[test]
fn the_scope_is_read() {
    let direction = Direction::parse("+++\nscope = \"focused\"\n+++").expect("valid");
    assert_eq!(direction.scope, Some(Scope::Focused));
    assert_eq!(direction.to_string(), "all knobs, scope focused");
}

#[test]
fn errors_name_line_key_and_fix() {
    check(
        "+++\nfocus = [\"depht\"]\n+++",
        "program.md line 2: `depht` in `focus` is neither a knob nor a group; did you mean `depth`?",
    );
    check(
        "+++\n\navoid = [\"the weather in March\"]\n+++",
        "program.md line 3: `the weather in March` in `avoid` is neither a knob nor a group; the groups are \
         shape, schedule, optimizer and init; the knobs are in node/docs/knobs.md",
    );
    check(
        "+++\nfocus = \"depth\"\n+++",
        "program.md line 2: `focus` is no list; write focus = [\"optimizer\", \"depth\"]",
    );
    check(
        "+++\nfocus = [3]\n+++",
        "program.md line 2: `focus` holds `3`, which is no name; write focus = [\"optimizer\", \"depth\"]",
    );
    check(
        "\n+++\nscope = \"wide\"\n+++",
        "program.md line 3: `scope` cannot be \"wide\"; use \"narrow\", \"focused\" or \"broad\"",
    );
    check("+++\nfocsu = []\n+++", "program.md line 2: unknown key `focsu`; did you mean `focus`?");
    check(
        "+++\nbudget_of_the_run = 3\n+++",
        "program.md line 2: unknown key `budget_of_the_run`; the keys are focus, avoid, scope",
    );
    check(
        "+++\nscope = \"narrow\"\n",
        "program.md line 1: the front matter that `+++` opens has no end; close it with a line of `+++`",
    );
    check(
        "---\nscope: narrow\n---\n",
        "program.md line 1: the front matter is enclosed in `---`; write it as TOML between two lines of \
         `+++`",
    );
    check(
        "+++\nfocus = [\"depth\"]\navoid = [\"depth\"]\n+++",
        "program.md line 3: `depth` is in `focus` and in `avoid`; drop one of the two",
    );
    let broken = Direction::parse("+++\nscope = \"narrow\"\nfocus = [depth]\n+++").expect_err("broken");
    assert_eq!(broken.line, 3, "{broken}");
    assert!(Direction::parse(&"x".repeat(MAX_BYTES + 1)).is_err());
}

#[test]
fn the_nearest_program_applies() {
    let (folder, home) = (Path::new("/here"), Path::new("/home"));
    let at = |asked: Option<&Path>, present: &[&str]| {
        locate(asked, folder, home, |path| present.iter().any(|p| Path::new(p) == path)).to_string()
    };
    assert_eq!(at(Some(Path::new("mine.md")), &["/here/program.md"]), "mine.md");
    assert_eq!(at(None, &["/here/program.md", "/home/program.md"]), "/here/program.md");
    assert_eq!(at(None, &["/home/program.md"]), "/home/program.md");
    assert_eq!(at(None, &[]), "the built-in program.md");
    assert_eq!(read(&ProgramSource::BuiltIn).expect("built in"), BUILT_IN);
}
