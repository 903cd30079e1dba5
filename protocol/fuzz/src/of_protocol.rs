//! The decoders of `protocol` as fuzz targets: records, configs, patches and the swarm config.
//!
//! A record has three targets, so that mutations get to each step of the verification ladder.

use std::sync::LazyLock;

use autoswarm_protocol::{
    Bpb, Budget, CrashClass, Estimate, Knob, Patch, SwarmConfig, TrainConfig,
    codec::{self, decode, encode},
    experiment::Comparison,
    id::{ArenaId, ConfigHash, ObjectiveId, RecordId},
    knobs::{KNOB_TABLE_VERSION, KNOBS},
    record::{
        Attestation, Body, Claim, Digest, DigestEnding, DigestLine, Discovery, Hardware, MAX_DIGEST,
        MAX_RECORD_BYTES, WIRE_MAJOR, sign, verify,
    },
    swarm_config::{MAX_SWARM_CONFIG_BYTES, Objective},
    train_config::Value,
};
use libp2p_identity::Keypair;
use serde::{Deserialize, Serialize};

use crate::target::Target;

/// The clock when records are read, seconds since 1970.
pub const NOW: u64 = 1_795_219_384;

/// Every target of this file.
pub const TARGETS: &[&Target] =
    &[&RECORD, &CONTENT, &BODY, &CONFIG, &CANONICAL_CONFIG, &PATCH, &PATCH_TEXT, &SWARM_CONFIG];

/// A whole record, as it may come from anywhere.
pub const RECORD: Target = Target {
    name: "record",
    limit: MAX_RECORD_BYTES,
    seeds: records,
    hostile: hostile_records,
    wrap: <[u8]>::to_vec,
    decode: is_verified,
    check: check_record,
};

/// The content of a record, under a good signature: what a hostile author can send.
pub const CONTENT: Target = Target {
    name: "content",
    limit: MAX_RECORD_BYTES,
    seeds: contents,
    hostile: hostile_contents,
    wrap: seal,
    decode: is_verified,
    check: check_record,
};

/// The body of a record, under a good signature.
pub const BODY: Target = Target {
    name: "body",
    limit: MAX_RECORD_BYTES,
    seeds: || bodies().iter().map(|body| encode(body).expect("small")).collect(),
    hostile: hostile_bodies,
    wrap: |body| seal(&encode(&content(body.to_vec())).unwrap_or_default()),
    decode: is_verified,
    check: check_record,
};

/// A train config on the wire.
pub const CONFIG: Target = Target {
    name: "config",
    limit: codec::MAX_BYTES,
    seeds: || configs().iter().map(|config| encode(config).expect("small")).collect(),
    hostile: hostile_configs,
    wrap: <[u8]>::to_vec,
    decode: |bytes| decode::<TrainConfig>(bytes).is_ok(),
    check: |bytes| {
        let config: TrainConfig = decode(bytes).expect("decoded before");
        assert_eq!(encode(&config).expect("small"), bytes);
        check_config(&config);
    },
};

/// A train config's canonical bytes, which its hash is made of.
pub const CANONICAL_CONFIG: Target = Target {
    name: "canonical_config",
    limit: codec::MAX_BYTES,
    seeds: || configs().iter().map(TrainConfig::canonical_bytes).collect(),
    hostile: || vec![("half an entry", vec![1; 5]), ("a knob twice", [[1u8; 11], [1; 11]].concat())],
    wrap: <[u8]>::to_vec,
    decode: |bytes| TrainConfig::from_canonical_bytes(bytes).is_ok(),
    check: |bytes| {
        let config = TrainConfig::from_canonical_bytes(bytes).expect("decoded before");
        assert_eq!(config.canonical_bytes(), bytes);
        check_config(&config);
    },
};

/// A patch on the wire.
pub const PATCH: Target = Target {
    name: "patch",
    limit: codec::MAX_BYTES,
    seeds: || patches().iter().map(|patch| encode(patch).expect("small")).collect(),
    hostile: hostile_patches,
    wrap: <[u8]>::to_vec,
    decode: |bytes| decode::<Patch>(bytes).is_ok(),
    check: |bytes| {
        let patch: Patch = decode(bytes).expect("decoded before");
        assert_eq!(encode(&patch).expect("small"), bytes);
        check_patch(&patch);
    },
};

/// A patch as text.
pub const PATCH_TEXT: Target = Target {
    name: "patch_text",
    limit: MAX_RECORD_BYTES,
    seeds: || patches().iter().map(|patch| patch.to_string().into_bytes()).collect(),
    hostile: || {
        vec![
            ("nothing", Vec::new()),
            ("commas", vec![b','; MAX_RECORD_BYTES]),
            ("words", b"a ".repeat(MAX_RECORD_BYTES / 2)),
            ("NaN", b"matrix_lr nan".to_vec()),
            ("twice", b"depth 3, depth 3".to_vec()),
        ]
    },
    wrap: <[u8]>::to_vec,
    decode: |bytes| str::from_utf8(bytes).is_ok_and(|text| Patch::parse(text, &TrainConfig::new()).is_ok()),
    check: |bytes| check_patch(&Patch::parse(text(bytes), &TrainConfig::new()).expect("decoded before")),
};

/// A swarm config as peers hand it out.
pub const SWARM_CONFIG: Target = Target {
    name: "swarm_config",
    limit: codec::MAX_BYTES,
    seeds: swarm_configs,
    hostile: hostile_swarm_configs,
    wrap: <[u8]>::to_vec,
    decode: |bytes| str::from_utf8(bytes).is_ok_and(|text| SwarmConfig::parse(text).is_ok()),
    check: |bytes| {
        let config = SwarmConfig::parse(text(bytes)).expect("decoded before");
        let objective = config.objective;
        let bytes = encode(&objective).expect("an objective is small");
        let again: Objective = decode(&bytes).expect("it was just encoded");
        assert_eq!((again.id(), &again), (objective.id(), &objective));
        check_config(&objective.baseline);
        for row in KNOBS {
            let (low, high) = row.domain.bounds();
            let _ = (objective.allows(row.knob, low), objective.allows(row.knob, high));
            let _ = objective.is_searchable(row.knob);
        }
    },
};

/// A record's content as it travels: a second reading of the wire, since the type in `protocol` is private.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Content {
    author: [u8; 32],
    objective: ObjectiveId,
    knobs: u16,
    made_at: u64,
    body: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Envelope {
    content: Content,
    signature: ([u8; 32], [u8; 32]),
}

static OBJECTIVE: LazyLock<Objective> = LazyLock::new(|| {
    let text = text(&swarm_configs()[0]).to_owned();
    SwarmConfig::parse(&text).expect("valid").objective
});

static KEYS: LazyLock<Keypair> =
    LazyLock::new(|| Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a key"));

static PUBLIC: LazyLock<[u8; 32]> =
    LazyLock::new(|| KEYS.clone().try_into_ed25519().expect("it is ed25519").public().to_bytes());

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("a text")
}

fn is_verified(bytes: &[u8]) -> bool {
    verify(bytes, &OBJECTIVE, NOW).is_ok()
}

/// Checks that a verified record has one meaning, and that signing the same again gives the same bytes.
fn check_record(bytes: &[u8]) {
    let record = verify(bytes, &OBJECTIVE, NOW).expect("verified before");
    let Envelope { content, .. } = decode(&bytes[1..]).expect("an envelope");
    assert_eq!(record.id(), RecordId::of(bytes));
    assert_eq!((record.author().as_bytes(), record.made_at()), (&content.author, content.made_at));
    assert_eq!(encode(record.value()).expect("small"), content.body);
    if content.author == *PUBLIC && content.extensions.is_empty() && content.knobs == KNOB_TABLE_VERSION {
        let again = sign(record.value(), &OBJECTIVE, &KEYS, content.made_at).expect("it was signed before");
        assert_eq!(again.bytes, bytes);
    }
    let json = serde_json::to_string(record.value()).expect("what is shown is finite");
    assert_eq!(&serde_json::from_str::<Body>(&json).expect("readable"), record.value());
    if let Body::Discovery(discovery) = record.value() {
        check_config(&discovery.config);
        check_patch(&discovery.patch);
        assert_eq!(
            discovery.patch.apply(&discovery.parent().expect("checked")),
            Ok(discovery.config.clone())
        );
    }
}

/// Checks that a config keeps its bytes when it is printed and read again, and that it can be executed.
fn check_config(config: &TrainConfig) {
    let bytes = config.canonical_bytes();
    assert_eq!(TrainConfig::from_canonical_bytes(&bytes).as_ref(), Ok(config));
    let printed = TrainConfig::from_toml(&config.to_toml()).expect("what is printed is read");
    assert_eq!(printed.canonical_bytes(), bytes);
    for context in [16, 256, 8192] {
        let executed = config.effective(context);
        assert_eq!(executed.effective(context).hash(), executed.hash());
        assert!(executed.heads() > 0 && executed.kv_heads() > 0 && executed.sequences_per_step() > 0);
    }
}

/// Checks that a patch stays the same when it is applied, printed and read again.
fn check_patch(patch: &Patch) {
    assert_eq!(&patch.invert().invert(), patch);
    let parent = patch.invert().transplant(&TrainConfig::new()).expect("values are in range");
    let child = patch.apply(&parent).expect("its own parent");
    assert_eq!(&Patch::between(&parent, &child), patch);
    if !patch.is_empty() {
        assert_eq!(Patch::parse(&patch.to_string(), &parent).as_ref(), Ok(patch));
    }
}

fn content(body: Vec<u8>) -> Content {
    Content {
        author: *PUBLIC,
        objective: OBJECTIVE.id(),
        knobs: KNOB_TABLE_VERSION,
        made_at: NOW,
        body,
        extensions: Vec::new(),
    }
}

/// Signs any content with this file's key. Content that names another author gets a bad signature so.
fn seal(content: &[u8]) -> Vec<u8> {
    let digest = blake3::derive_key("autoswarm 1 record signature", content);
    let signature = KEYS.sign(&digest).expect("ed25519 signs everything");
    [&[WIRE_MAJOR], content, &signature].concat()
}

fn records() -> Vec<Vec<u8>> {
    contents().iter().map(|content| seal(content)).collect()
}

fn contents() -> Vec<Vec<u8>> {
    let mut contents: Vec<Content> =
        bodies().iter().map(|body| content(encode(body).expect("small"))).collect();
    let last = contents.last_mut().expect("there are bodies");
    last.extensions = vec![(1, b"later".to_vec()), (7, vec![0; 300])];
    contents.iter().map(|content| encode(content).expect("small")).collect()
}

/// Returns one body of each kind, and large ones.
fn bodies() -> Vec<Body> {
    let arena = ArenaId::of(b"arena");
    let patches = patches();
    let discoveries = patches.iter().map(|patch| Body::Discovery(Box::new(discovery(patch))));
    let hardware =
        Hardware { device: "NVIDIA H200".to_owned(), threads: 1, slots: 8, tokens_per_second: 1.5e6 };
    let attestation = |comparison, found| Attestation {
        discovery: RecordId::of(b"a discovery"),
        comparison,
        arena,
        hardware: hardware.clone(),
        found,
        tokens: Some((1024, 2048)),
    };
    let estimate = Estimate { delta: 0.001, standard_error: 0.004, pairs: 2 };
    let attestations = [
        attestation(Comparison::Reproduced, Ok(estimate)),
        attestation(Comparison::Transfers, Err(CrashClass::TimedOut)),
        attestation(Comparison::Transplants, Ok(estimate)),
    ];
    let line = |n: usize| DigestLine {
        config: ConfigHash::of(&n.to_le_bytes()),
        patch: patches[n % patches.len()].clone(),
        ending: [DigestEnding::Kept, DigestEnding::Discarded, DigestEnding::Crashed][n % 3],
        found: (n % 3 != 2).then_some(estimate),
    };
    let digest = |lines: usize| Body::Digest(Digest { arena, lines: (0..lines).map(line).collect() });
    let claim = Body::Claim(Claim { config: ConfigHash::of(b"config"), seconds: 60 });
    discoveries
        .chain(attestations.map(|it| Body::Attestation(Box::new(it))))
        .chain([digest(1), digest(MAX_DIGEST), claim])
        .collect()
}

fn discovery(patch: &Patch) -> Discovery {
    let parent = patch.invert().transplant(&TrainConfig::new()).expect("in range").effective(256);
    let config = patch.transplant(&parent).expect("in range").effective(256);
    let estimate = Estimate { delta: -0.02, standard_error: 0.004, pairs: 3 };
    Discovery {
        arena: ArenaId::of(b"arena"),
        budget: Budget::Milliseconds(20_000),
        hardware: Hardware { device: "cpu".to_owned(), threads: 2, slots: 1, tokens_per_second: 8100.0 },
        patch: Patch::between(&parent, &config),
        config: (*config).clone(),
        estimate,
        audit: Some(estimate),
        level: Bpb::new(2.4).expect("positive"),
        tokens: (812_032, 812_032),
        seconds: 20.1,
        curve: vec![5.5, 3.1, 2.4],
        inspirations: vec![RecordId::of(b"another"), RecordId::of(b"and one more")],
        because: "prior art: it helped elsewhere".to_owned(),
    }
}

fn configs() -> Vec<TrainConfig> {
    let most = KNOBS.iter().fold(TrainConfig::new(), |config, row| {
        let (low, high) = row.domain.bounds();
        let other = if low == Value::default_of(row.knob) { high } else { low };
        config.with(row.knob, other).expect("a bound is in range")
    });
    let toml = "depth = 2\nmatrix_lr = 0.03\nactivation = \"swiglu\"\nadam_eps = 1e-12\nsoftcap = 0.0";
    vec![
        TrainConfig::new(),
        TrainConfig::from_toml(toml).expect("valid"),
        (*most.effective(256)).clone(),
        most,
    ]
}

fn patches() -> Vec<Patch> {
    let parent = TrainConfig::new();
    let parse = |text: &str| Patch::parse(text, &parent).expect("a patch");
    vec![
        parse("matrix_lr 0.03"),
        parse("warmup 0.1, depth 3"),
        parse("activation swiglu, adam_eps 1e-12, width 96, sequence_length 128, softcap 0, muon_steps 3"),
    ]
}

fn swarm_configs() -> Vec<Vec<u8>> {
    let full = r#"
name = "fuzz"
description = "what fuzzing starts from"
[objective]
metric = "val_bpb"
corpus = { source = "path", path = "/text" }
tokenizer = { kind = "bpe", vocabulary = 1024 }
evaluation = { context = 256, tokens = 65536 }
budget = "20s"
dtype = "bf16"
min_effect = 0.001
baseline = { depth = 2, sequence_length = 128 }
search = { frozen = ["dropout"], ranges = { depth = [1, 8], activation = ["relu2", "swiglu"], matrix_lr = [0.001, 0.1] }, priors = false }
[swarm]
bootstrap = ["/ip4/127.0.0.1/tcp/4001"]
"#;
    let shipped = [
        include_str!("../../../swarm-configs/default.toml"),
        include_str!("../../../swarm-configs/plain-baseline.toml"),
    ];
    std::iter::once(full).chain(shipped).map(|text| text.as_bytes().to_vec()).collect()
}

fn hostile_records() -> Vec<(&'static str, Vec<u8>)> {
    let good = || content(encode(&bodies()[0]).expect("small"));
    let sealed = |content: &Content| seal(&encode(content).expect("small"));
    let with_domain = |domain: &str| {
        let content = encode(&good()).expect("small");
        let digest = blake3::derive_key(domain, &content);
        [&[WIRE_MAJOR], &content[..], &KEYS.sign(&digest).expect("signs")].concat()
    };
    let unhashed = {
        let content = encode(&good()).expect("small");
        [&[WIRE_MAJOR], &content[..], &KEYS.sign(&content).expect("signs")].concat()
    };
    let mut table = vec![
        ("nothing", Vec::new()),
        ("the version alone", vec![WIRE_MAJOR]),
        ("the wrong domain", with_domain("autoswarm 1 gossip")),
        ("no domain", unhashed),
        ("a byte too many", [sealed(&good()), vec![0]].concat()),
        ("another objective", sealed(&Content { objective: ObjectiveId::of(b"x"), ..good() })),
        ("knobs of a later version", sealed(&Content { knobs: u16::MAX, ..good() })),
        ("the end of time", sealed(&Content { made_at: u64::MAX, ..good() })),
        ("no body", sealed(&Content { body: Vec::new(), ..good() })),
        ("too many extensions", sealed(&Content { extensions: vec![(0, Vec::new()); 9], ..good() })),
    ];
    // Every point of small order as a key: for these a lenient check accepts one signature for any message.
    table.extend(SMALL_ORDER.iter().map(|point| {
        let mut bytes = sealed(&good());
        bytes[1..33].copy_from_slice(point);
        let at = bytes.len() - 64;
        bytes[at..].fill(0);
        bytes[at] = 1; // R is the identity, S is 0
        ("a key of small order", bytes)
    }));
    table
}

/// The points of order 1, 2, 4 and 8 on the curve, with their other encodings.
/// (Cremers and Jackson, "Prime, Order Please!", 2019, and what libsodium blocks.)
const SMALL_ORDER: [[u8; 32]; 7] = {
    const fn filled(first: u8, middle: u8, last: u8) -> [u8; 32] {
        let mut bytes = [middle; 32];
        bytes[0] = first;
        bytes[31] = last;
        bytes
    }
    [
        filled(1, 0, 0),
        filled(0, 0, 0),
        filled(0, 0, 0x80),
        filled(1, 0, 0x80),
        filled(0xec, 0xff, 0x7f),
        filled(0xed, 0xff, 0x7f),
        filled(0xee, 0xff, 0x7f),
    ]
};

fn hostile_contents() -> Vec<(&'static str, Vec<u8>)> {
    let encoded = encode(&content(encode(&bodies()[0]).expect("small"))).expect("small");
    // Author, objective, version and time come before the body's length.
    let length_at = 32 + 32 + 2 + 8;
    let with_length = |length: u64| {
        let mut bytes = encoded.clone();
        bytes[length_at..length_at + 8].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    vec![
        ("a body of 2^64 - 1 bytes", with_length(u64::MAX)),
        ("a body as long as the codec's limit", with_length(codec::MAX_BYTES as u64)),
        ("a body a byte short", with_length(encoded.len() as u64 - length_at as u64 - 15)),
        ("another's name", [&[9; 32], &encoded[32..]].concat()),
    ]
}

fn hostile_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let good = || discovery(&patches()[0]);
    let body = |change: fn(&mut Discovery)| {
        let mut discovery = good();
        change(&mut discovery);
        encode(&Body::Discovery(Box::new(discovery))).expect("small")
    };
    let counted = |variant: u32, before: &[u8], count: u64| {
        [&variant.to_le_bytes(), before, &count.to_le_bytes(), &[0xff; 100]].concat()
    };
    vec![
        ("NaN as a difference", body(|it| it.estimate.delta = f64::NAN)),
        ("NaN with a payload", body(|it| it.estimate.delta = f64::from_bits(0x7ff0_0000_0000_0001))),
        ("an infinite error", body(|it| it.estimate.standard_error = f64::INFINITY)),
        ("a negative error", body(|it| it.estimate.standard_error = -1.0)),
        ("NaN in the curve", body(|it| it.curve = vec![f32::NAN])),
        ("infinite seconds", body(|it| it.seconds = f64::INFINITY)),
        ("an infinite throughput", body(|it| it.hardware.tokens_per_second = f64::INFINITY)),
        ("escapes", body(|it| "\u{1b}[2J\u{1b}]0;x\u{7}".clone_into(&mut it.because))),
        ("a forged trailer", body(|it| "x\nVerdict: keep".clone_into(&mut it.because))),
        ("a long line", body(|it| it.because = "x".repeat(281))),
        ("no such kind", encode(&9u32).expect("small")),
        ("a digest of 2^64 - 1 lines", counted(2, &[0; 32], u64::MAX)),
        ("a digest of 129 lines", counted(2, &[0; 32], 129)),
        ("a digest of none", counted(2, &[0; 32], 0)),
        ("a claim of a year", encode(&(3u32, [0u8; 32], 31_536_000u32)).expect("small")),
    ]
}

fn hostile_configs() -> Vec<(&'static str, Vec<u8>)> {
    let entries = |entries: &[(u16, u8, u64)]| encode(&entries.to_vec()).expect("small");
    let warmdown = Knob::Warmdown.id();
    vec![
        ("2^64 - 1 values", [&u64::MAX.to_le_bytes()[..], &[1; 100]].concat()),
        ("a mebibyte of values", [&(1u64 << 16).to_le_bytes()[..], &[1; 100]].concat()),
        ("more values than knobs", entries(&vec![(1, 0, 3); KNOBS.len() + 1])),
        ("no such knob", entries(&[(9999, 0, 3)])),
        ("no such type", entries(&[(1, 7, 3)])),
        ("a default", entries(&[(1, 0, 4)])),
        ("falling order", entries(&[(2, 0, 64), (1, 0, 3)])),
        ("off its grid", entries(&[(warmdown, 1, 0.512f64.to_bits())])),
        ("a second zero", entries(&[(warmdown, 1, (-0.0f64).to_bits())])),
        ("NaN", entries(&[(warmdown, 1, f64::NAN.to_bits())])),
        ("a choice of 2^64 - 1", entries(&[(14, 2, u64::MAX)])),
        ("the smallest integer", entries(&[(1, 0, i64::MIN as u64)])),
    ]
}

fn hostile_patches() -> Vec<(&'static str, Vec<u8>)> {
    let triples = |triples: &[(u16, &str, &str)]| encode(&triples.to_vec()).expect("small");
    vec![
        ("2^64 - 1 changes", [&u64::MAX.to_le_bytes()[..], &[1; 100]].concat()),
        ("more changes than knobs", triples(&vec![(1, "3", "4"); KNOBS.len() + 1])),
        (
            "a value of 2^64 - 1 bytes",
            [&1u64.to_le_bytes()[..], &1u16.to_le_bytes(), &u64::MAX.to_le_bytes()].concat(),
        ),
        ("no change", triples(&[(1, "4", "4")])),
        ("a knob twice", triples(&[(1, "4", "3"), (1, "4", "2")])),
        ("another spelling", triples(&[(1, "4", "03")])),
        ("an underscore", triples(&[(2, "128", "6_4")])),
        ("a second zero", triples(&[(Knob::Warmdown.id(), "0.5", "-0")])),
        ("NaN", triples(&[(Knob::Warmdown.id(), "0.5", "NaN")])),
        ("no such knob", triples(&[(9999, "1", "2")])),
    ]
}

fn hostile_swarm_configs() -> Vec<(&'static str, Vec<u8>)> {
    let good = text(&swarm_configs()[0]).to_owned();
    let instead = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to).into_bytes()
    };
    let filled = |start: String, unit: &str| {
        let room = MAX_SWARM_CONFIG_BYTES - start.len();
        format!("{start}{}", unit.repeat(room / unit.len())).into_bytes()
    };
    let many = |unit: &str, times: usize| format!("n=[{}", unit.repeat(times));
    let deep = format!("{}1{},", "{a=".repeat(30), "}".repeat(30));
    let dotted: Vec<String> = (0..6).map(|n| format!("k{n}{}=1\n", ".a".repeat(77))).collect();
    let dotted = dotted.concat();
    // What costs the parser the most memory: as many tables as are allowed, and the rest filled with values
    // or empty lines.
    let mut table: Vec<(&'static str, Vec<u8>)> = vec![
        ("500 arrays in one another", instead("\"20s\"", &"[".repeat(470))),
        ("150 tables in one another", instead("\"20s\"", &"{a=".repeat(150))),
        ("470 dots", instead("budget", &vec!["a"; 470].join("."))),
        ("as many empty arrays as fit", filled(many("[],", 250), "1,")),
        ("as many inline tables as fit", filled(many("{a=1},", 166), "1,")),
        ("as many nested tables as fit", filled(many(&deep, 5), "1,")),
        ("as many tables as fit", filled("[[a]]\n".repeat(100), "\n")),
        ("as many keys as fit", filled(String::new(), "a=1\n")),
        ("as many dotted keys as fit", filled(dotted, "\n")),
    ];
    let units = ["1,", "\n", "]", "}", ",", " ", "#\n", "a", "a\n", "\"", "''", "\\", "\0"];
    table.extend(units.map(|unit| (unit, filled(String::new(), unit))));
    table.extend(units.map(|unit| (unit, filled(many("1,", 1), unit))));
    table.extend(vec![
        ("too many tables", filled(many("", 0), "{a=1},")),
        ("an endless text", filled("name = \"".to_owned(), "x")),
        ("10,000 arrays in one another", instead("\"20s\"", &"[".repeat(10_000))),
        ("NaN", instead("min_effect = 0.001", "min_effect = nan")),
        ("a negative effect", instead("min_effect = 0.001", "min_effect = -0.1")),
        ("a huge number", instead("tokens = 65536", "tokens = 18446744073709551616")),
        ("a huge context", instead("context = 256", "context = 2147483648")),
        ("a range upside down", instead("[1, 8]", "[8, 1]")),
        ("an unknown key", instead("budget", "budgett")),
    ]);
    table
}
