//! The decoders of `node` as fuzz targets: requests, responses, reconciliation from both sides, tickets.

use std::collections::BTreeSet;

use autoswarm_node::swarm::network::{
    Ticket,
    archive::Archive,
    exchange::{Codec, MAX_FRAME_BYTES, MAX_IDS, PeerRequest, PeerResponse, ShortId},
    sync::{Lead, SyncStep, answer_frame},
};
use autoswarm_protocol::{
    Patch, SwarmConfig, TrainConfig, codec,
    id::{ArenaId, ConfigHash, ObjectiveId},
    record::{Body, Digest, DigestEnding, DigestLine, sign},
};
use futures::{executor::block_on, io::Cursor};
use libp2p::{StreamProtocol, identity::Keypair, request_response::Codec as _};

use crate::target::Target;

/// The clock when records are read, seconds since 1970.
const NOW: u64 = 1_795_219_384;

/// Every target of this file.
pub const TARGETS: &[&Target] = &[&ASK, &ANSWER, &FRAME, &LEAD, &TICKET];

/// What a peer asks: a [`PeerRequest`].
pub const ASK: Target = Target {
    name: "ask",
    limit: codec::MAX_BYTES,
    seeds: || asks().iter().map(|ask| codec::encode(ask).expect("small")).collect(),
    hostile: || {
        vec![
            ("nothing", Vec::new()),
            ("no such question", vec![0xff; 4]),
            ("a frame of 2^64 - 1 bytes", [&[0; 4], &[0xff; 8][..], &[1; 64]].concat()),
            ("a frame that is too long", vector(0, MAX_FRAME_BYTES + 1)),
            ("2^64 - 1 ids", [&[1, 0, 0, 0], &[0xff; 8][..], &[1; 64]].concat()),
            ("an id too many", codec::encode(&PeerRequest::Get(vec![id(0); MAX_IDS + 1])).expect("small")),
        ]
    },
    wrap: <[u8]>::to_vec,
    decode: |bytes| read_ask(bytes).is_some(),
    check: |bytes| {
        let mut written = Cursor::new(Vec::new());
        let ask = read_ask(bytes).expect("decoded before");
        block_on(Codec.write_request(&NAME, &mut written, ask)).expect("a cursor takes all");
        assert_eq!(written.into_inner(), bytes);
    },
};

/// What a peer answers: a [`PeerResponse`].
pub const ANSWER: Target = Target {
    name: "answer",
    limit: codec::MAX_BYTES,
    seeds: || answers().iter().map(|answer| codec::encode(answer).expect("small")).collect(),
    hostile: || {
        let empty_records = |count: usize| codec::encode(&PeerResponse::Records(vec![Vec::new(); count]));
        vec![
            ("nothing", Vec::new()),
            ("a frame that is too long", vector(0, MAX_FRAME_BYTES + 1)),
            ("2^64 - 1 records", [&[1, 0, 0, 0], &[0xff; 8][..], &[1; 64]].concat()),
            ("as many empty records as fit", empty_records(32_766).expect("it fits")),
            ("a record too many", empty_records(MAX_IDS + 1).expect("small")),
            ("a text of 2^64 - 1 bytes", [&[2, 0, 0, 0], &[0xff; 8][..], b"name"].concat()),
            ("a text that is too long", vector(2, 5000)),
            ("a text that is not UTF-8", [&[2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], &[0xff][..]].concat()),
        ]
    },
    wrap: <[u8]>::to_vec,
    decode: |bytes| read_answer(bytes).is_some(),
    check: |bytes| {
        let mut written = Cursor::new(Vec::new());
        let answer = read_answer(bytes).expect("decoded before");
        block_on(Codec.write_response(&NAME, &mut written, answer)).expect("a cursor takes all");
        assert_eq!(written.into_inner(), bytes);
    },
};

/// A frame of a reconciliation that a peer leads.
pub const FRAME: Target = Target {
    name: "frame",
    limit: MAX_FRAME_BYTES,
    seeds: || conversation().0,
    hostile: hostile_frames,
    wrap: <[u8]>::to_vec,
    decode: |frame| FULL.with(|archive| answer_frame(archive, frame)).is_ok(),
    check: |frame| {
        let answer = || FULL.with(|archive| answer_frame(archive, frame)).expect("answered before");
        assert!(answer().len() <= MAX_FRAME_BYTES);
        assert_eq!(answer(), answer(), "who answers keeps nothing in between");
    },
};

/// The frames that a peer answers when this node leads a reconciliation, each after its length in two bytes.
pub const LEAD: Target = Target {
    name: "lead",
    limit: MAX_FRAME_BYTES,
    seeds: || {
        let answers = conversation().1;
        let together = answers.concat();
        answers.into_iter().chain([together]).collect()
    },
    hostile: || hostile_frames().into_iter().map(|(what, frame)| (what, with_length(&frame))).collect(),
    wrap: <[u8]>::to_vec,
    decode: |frames| led(frames).is_some(),
    check: |frames| {
        let mut lead = led(frames).expect("led before");
        let archive = Archive::in_memory(objective());
        let mut wanted = 0;
        while let Some(ids) = lead.next_ids(&archive, &BTreeSet::new()) {
            assert!((1..=MAX_IDS).contains(&ids.len()));
            wanted += ids.len();
        }
        assert!(wanted <= frames.len() / 32, "{wanted} ids of {} bytes", frames.len());
    },
};

/// A ticket, as one person sends it to another.
pub const TICKET: Target = Target {
    name: "ticket",
    limit: 8192,
    seeds: tickets,
    hostile: || {
        let [one, ..] = &tickets()[..] else { return Vec::new() };
        let (objective, address) = one.split_at(65);
        let of = |address: &[u8]| [objective, address].concat();
        vec![
            ("nothing", Vec::new()),
            ("no address", objective.to_vec()),
            ("no objective", address.to_vec()),
            ("nobody's address", of(b"/ip4/127.0.0.1/tcp/4001")),
            ("a port that is none", of(b"/ip4/127.0.0.1/tcp/99999/p2p/12D3KooW")),
            ("too many addresses", of(&[address; 17].join(&b','))),
            ("only commas", of(&[b','; 8000])),
            ("not UTF-8", of(&[0xff; 8])),
        ]
    },
    wrap: <[u8]>::to_vec,
    decode: |bytes| read_ticket(bytes).is_some(),
    check: |bytes| {
        let ticket = read_ticket(bytes).expect("read before");
        assert!((1..=16).contains(&ticket.addresses.len()));
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
    },
};

const NAME: StreamProtocol = StreamProtocol::new("/fuzz");

fn read_ask(bytes: &[u8]) -> Option<PeerRequest> {
    block_on(Codec.read_request(&NAME, &mut Cursor::new(bytes))).ok()
}

fn read_answer(bytes: &[u8]) -> Option<PeerResponse> {
    block_on(Codec.read_response(&NAME, &mut Cursor::new(bytes))).ok()
}

fn read_ticket(bytes: &[u8]) -> Option<Ticket> {
    str::from_utf8(bytes).ok()?.parse().ok()
}

/// Returns the reconciliation after it took these answers; none where it refused one of them.
fn led(mut frames: &[u8]) -> Option<Lead> {
    let (mut lead, _) = SPARSE.with(Lead::begin).ok()?;
    while let Some((length, rest)) = frames.split_at_checked(2) {
        let length = usize::from(u16::from_le_bytes(length.try_into().ok()?)).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        if let SyncStep::Frame(frame) = lead.step(frame).ok()? {
            assert!(frame.len() <= MAX_FRAME_BYTES);
        }
        frames = rest;
    }
    Some(lead)
}

fn with_length(frame: &[u8]) -> Vec<u8> {
    let length = u16::try_from(frame.len()).expect("a frame has less than 60 KiB");
    [&length.to_le_bytes(), frame].concat()
}

fn objective() -> autoswarm_protocol::swarm_config::Objective {
    let text = include_str!("../../../swarm-configs/default.toml");
    SwarmConfig::parse(text).expect("valid").objective
}

thread_local! {
    /// An archive with enough records for several ranges.
    static FULL: Archive = archive(0..100);
    /// An archive with every third of them.
    static SPARSE: Archive = archive((0..100).step_by(3));
}

fn archive(numbers: impl Iterator<Item = u32>) -> Archive {
    let mut archive = Archive::in_memory(objective());
    for n in numbers {
        archive.insert(&record(n), NOW + 100).expect("valid");
    }
    archive
}

fn record(n: u32) -> Vec<u8> {
    let keys = Keypair::ed25519_from_bytes([n as u8 % 5 + 1; 32]).expect("32 bytes are a key");
    let patch = Patch::parse("warmup 0.1", &TrainConfig::new()).expect("a patch");
    let config = ConfigHash::of(&n.to_le_bytes());
    let line = DigestLine { config, patch, ending: DigestEnding::Discarded, found: None };
    let body = Body::Digest(Digest { arena: ArenaId::of(b"a"), lines: vec![line] });
    // Eight records share a second, so that only their ids tell them apart.
    sign(&body, &objective(), &keys, NOW + u64::from(n / 8)).expect("valid").bytes
}

/// Reconciles the two archives; returns the frames that ask, and the answers, each after its length.
fn conversation() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut lead, mut frame) = SPARSE.with(Lead::begin).expect("begins");
    let (mut asks, mut answers) = (vec![vec![0x61]], Vec::new());
    loop {
        let answer = FULL.with(|archive| answer_frame(archive, &frame)).expect("an honest frame");
        asks.push(std::mem::take(&mut frame));
        answers.push(with_length(&answer));
        match lead.step(&answer).expect("an honest answer") {
            SyncStep::Frame(next) => frame = next,
            SyncStep::Fetch => return (asks, answers),
        }
    }
}

fn hostile_frames() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("nothing", Vec::new()),
        ("a version that is none", vec![0x20]),
        ("no mode", vec![0x61, 0, 0, 9]),
        ("2^34 ids, and none there", vec![0x61, 0, 0, 2, 0xc0, 0x80, 0x80, 0x80, 0]),
        ("an over-long number of ids", [&[0x61, 0, 0, 2][..], &[0xff; 40], &[0x7f]].concat()),
        ("a bound longer than an id", [&[0x61, 0, 33][..], &[1; 40]].concat()),
        ("a fingerprint cut off", vec![0x61, 0, 0, 1, 1, 2, 3]),
    ]
}

fn asks() -> Vec<PeerRequest> {
    let frame = conversation().0.pop().expect("frames");
    let ids = (0..MAX_IDS as u8).map(id);
    vec![
        PeerRequest::Reconcile(frame),
        PeerRequest::Get(ids.collect()),
        PeerRequest::Get(Vec::new()),
        PeerRequest::SwarmConfig,
        PeerRequest::Peers,
    ]
}

fn answers() -> Vec<PeerResponse> {
    vec![
        PeerResponse::Reconcile(conversation().1.pop().expect("frames").split_off(2)),
        PeerResponse::Records((0..5).map(record).collect()),
        PeerResponse::Records(vec![vec![7; 3000]; MAX_IDS]),
        PeerResponse::SwarmConfig(include_str!("../../../swarm-configs/default.toml").to_owned()),
        PeerResponse::Busy,
        PeerResponse::Peers(vec![b"/ip4/127.0.0.1/tcp/4001".to_vec(); 16]),
    ]
}

fn id(n: u8) -> ShortId {
    [n; 16]
}

/// Returns the encoding of a message: variant `kind`, which holds `length` bytes.
fn vector(kind: u32, length: usize) -> Vec<u8> {
    [&kind.to_le_bytes(), &(length as u64).to_le_bytes()[..], &vec![b'x'; length]].concat()
}

fn tickets() -> Vec<Vec<u8>> {
    let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    let addresses = [
        format!("/ip4/127.0.0.1/tcp/4001/p2p/{peer}"),
        format!("/ip6/::1/udp/4001/quic-v1/p2p/{peer},/dns4/swarm.example.org/tcp/4001/p2p/{peer}"),
        format!("/ip4/192.0.2.7/tcp/4001/p2p/{peer}/p2p-circuit/p2p/{peer}"),
    ];
    addresses.map(|addresses| format!("{}@{addresses}", ObjectiveId::of(b"x")).into_bytes()).to_vec()
}
