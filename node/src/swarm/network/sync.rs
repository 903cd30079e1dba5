//! Set reconciliation over an archive, as steps without IO.
//!
//! The side that leads asks; the side that answers keeps nothing in between. Gossip is for latency; this is
//! the guarantee. When to reconcile is decided in `sync_schedule.rs`.

use std::collections::BTreeSet;

use autoswarm_protocol::{id::RecordId, record::MAX_RECORD_BYTES};
use negentropy::Negentropy;

use super::{
    archive::{Archive, Set},
    exchange::{MAX_ANSWER_BYTES, MAX_FRAME_BYTES, MAX_IDS, PeerResponse, ShortId},
};

/// Most rounds of one reconciliation. The largest possible archives, with nothing in common, take half as
/// many.
const MAX_ROUNDS: u32 = 256;

/// Most ids that one reconciliation may find missing: as many small records as two archives hold.
const MAX_NEEDED: usize = 1 << 18;

/// Bytes around a record in a response: its length.
pub const RECORD_OVERHEAD: usize = 8;

/// What a peer did wrong in a reconciliation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misled {
    /// It sent a frame that cannot be processed.
    #[error("sent a frame that makes no sense")]
    BadFrame,
    /// The comparison never comes to an end: it is over the bound on rounds or on missing ids.
    #[error("never comes to an end with comparing")]
    Endless,
}

/// A reconciliation that this node leads.
#[derive(Debug)]
pub struct Lead {
    negentropy: Negentropy<'static, Set>,
    rounds: u32,
    /// Ids that the peer has and this node lacks, not asked for yet; the last is asked for first.
    needed: Vec<RecordId>,
    /// Whether either side lacks something.
    differs: bool,
}

/// What the leading side does next.
#[derive(Debug, PartialEq, Eq)]
pub enum SyncStep {
    /// Send this frame to the peer.
    Frame(Vec<u8>),
    /// The sets are compared: fetch the records that are missing.
    Fetch,
}

impl Lead {
    /// Begins a reconciliation; returns it with the first frame to send.
    pub fn begin(archive: &Archive) -> Result<(Self, Vec<u8>), negentropy::Error> {
        let mut negentropy = Negentropy::owned(archive.set()?, MAX_FRAME_BYTES as u64)?;
        let frame = negentropy.initiate()?;
        Ok((Self { negentropy, rounds: 0, needed: Vec::new(), differs: false }, frame))
    }

    /// Takes the peer's frame, and returns what to do next.
    pub fn step(&mut self, frame: &[u8]) -> Result<SyncStep, Misled> {
        self.rounds += 1;
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next =
            self.negentropy.reconcile_with_ids(frame, &mut have, &mut need).map_err(|_| Misled::BadFrame)?;
        self.differs |= !(have.is_empty() && need.is_empty());
        self.needed.extend(need.iter().map(|id| RecordId::from_bytes(*id.as_bytes())));
        match next {
            None => {
                self.needed.sort_unstable();
                self.needed.dedup();
                Ok(SyncStep::Fetch)
            }
            Some(_) if self.rounds >= MAX_ROUNDS || self.needed.len() > MAX_NEEDED => Err(Misled::Endless),
            Some(frame) => Ok(SyncStep::Frame(frame)),
        }
    }

    /// Takes the ids of the next request for bodies, without those that are under way from any peer. Returns
    /// none when there is nothing to ask for now.
    pub fn next_ids(&mut self, archive: &Archive, under_way: &BTreeSet<RecordId>) -> Option<Vec<RecordId>> {
        let (mut ids, mut later) = (Vec::new(), Vec::new());
        while ids.len() < MAX_IDS
            && let Some(id) = self.needed.pop()
        {
            // Gossip may have brought it meanwhile, or it found no room here.
            if archive.get(id).is_some() || archive.refuses(id) {
                continue;
            }
            if under_way.contains(&id) {
                later.push(id);
            } else {
                ids.push(id);
            }
        }
        self.needed.append(&mut later);
        (!ids.is_empty()).then_some(ids)
    }

    /// Returns whether every missing record was asked for.
    pub fn is_done(&self) -> bool {
        self.needed.is_empty()
    }

    /// Returns whether neither side lacks anything, as far as they were compared.
    pub fn found_nothing(&self) -> bool {
        !self.differs
    }

    /// Puts ids back to be asked for again.
    pub fn again(&mut self, ids: impl IntoIterator<Item = RecordId>) {
        self.needed.extend(ids);
    }
}

/// Returns whether a response of so many bytes had room for one more record. If so, what is missing in it is
/// not held by the peer.
pub const fn had_room(bytes: usize) -> bool {
    bytes + MAX_RECORD_BYTES + RECORD_OVERHEAD <= MAX_ANSWER_BYTES
}

/// Returns the answer to a frame, from the archive as it is now.
pub fn answer_frame(archive: &Archive, frame: &[u8]) -> Result<Vec<u8>, negentropy::Error> {
    Negentropy::owned(archive.set()?, MAX_FRAME_BYTES as u64)?.reconcile(frame)
}

/// Returns whether an answer to a frame says that the sets are equal: it holds its version and no range.
pub const fn says_equal(frame: &[u8]) -> bool {
    frame.len() <= 1
}

/// Returns the response to a request for bodies, with as many of those held as fit.
pub fn answer_ids(archive: &Archive, ids: &[ShortId]) -> PeerResponse {
    let mut records = Vec::new();
    let mut bytes = 0;
    for held in ids.iter().take(MAX_IDS).filter_map(|id| archive.find(*id)) {
        bytes += held.bytes.len() + RECORD_OVERHEAD;
        if bytes > MAX_ANSWER_BYTES {
            break;
        }
        records.push(held.bytes.clone());
    }
    PeerResponse::Records(records)
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{
        SwarmConfig, TrainConfig,
        id::{ArenaId, ConfigHash},
        record::{Body, Digest, DigestEnding, DigestLine, sign},
        swarm_config::Objective,
    };
    use libp2p::identity::Keypair;

    use super::*;
    use crate::swarm::network::{archive::ArchiveCaps, exchange};

    const NOW: u64 = 1_795_219_384;

    fn objective() -> Objective {
        SwarmConfig::parse(crate::cli::settings::BUILT_IN[0].1).expect("valid").objective
    }

    fn fill(archive: &mut Archive, authors: std::ops::Range<u8>, records: u32) {
        for author in authors {
            let keys = Keypair::ed25519_from_bytes([author; 32]).expect("32 bytes are a key");
            for n in 0..records {
                let patch =
                    autoswarm_protocol::Patch::parse("warmup 0.1", &TrainConfig::new()).expect("a patch");
                let config = ConfigHash::of(&n.to_le_bytes());
                let line = DigestLine { config, patch, ending: DigestEnding::Discarded, found: None };
                let body = Body::Digest(Digest { arena: ArenaId::of(b"a"), lines: vec![line] });
                let signed = sign(&body, &objective(), &keys, NOW - u64::from(n)).expect("valid");
                archive.insert(&signed.bytes, NOW).expect("valid");
            }
        }
    }

    /// Reconciles `to` with `from`; returns the bytes of the frames and how many bodies were fetched.
    fn reconcile(to: &mut Archive, from: &Archive) -> (usize, usize) {
        let (mut lead, mut frame) = Lead::begin(to).expect("begins");
        let (mut bytes, mut fetched) = (0, 0);
        loop {
            let answer = answer_frame(from, &frame).expect("a frame");
            bytes += frame.len() + answer.len();
            match lead.step(&answer).expect("honest") {
                SyncStep::Frame(next) => frame = next,
                SyncStep::Fetch => break,
            }
        }
        while let Some(ids) = lead.next_ids(to, &BTreeSet::new()) {
            let short: Vec<ShortId> = ids.iter().map(|id| exchange::short(*id)).collect();
            let PeerResponse::Records(records) = answer_ids(from, &short) else { panic!("records") };
            assert_eq!(records.len(), ids.len());
            fetched += records.len();
            for record in records {
                to.insert(&record, NOW).expect("valid");
            }
        }
        (bytes, fetched)
    }

    #[test]
    fn two_archives_become_equal_and_a_second_look_costs_little() {
        let (mut one, mut other) = (Archive::in_memory(objective()), Archive::in_memory(objective()));
        fill(&mut one, 1..5, 200);
        fill(&mut other, 4..8, 200);
        assert_eq!(reconcile(&mut one, &other).1, 600);
        assert_eq!(reconcile(&mut other, &one).1, 600);
        assert_eq!(one.fingerprint(), other.fingerprint());
        let (bytes, fetched) = reconcile(&mut one, &other);
        assert!(fetched == 0 && bytes < 1024, "{bytes} bytes");
        let (mut lead, frame) = Lead::begin(&one).expect("begins");
        let answer = answer_frame(&other, &frame).expect("a frame");
        assert!(says_equal(&answer));
        assert_eq!(lead.step(&answer), Ok(SyncStep::Fetch));
        assert!(lead.found_nothing());
    }

    #[test]
    fn a_difference_is_seen_by_both_whoever_of_them_lacks_something() {
        let (mut more, less) = (Archive::in_memory(objective()), Archive::in_memory(objective()));
        fill(&mut more, 1..3, 10);
        for (leading, other) in [(&more, &less), (&less, &more)] {
            let (mut lead, mut frame) = Lead::begin(leading).expect("begins");
            let mut seen = false;
            loop {
                let answer = answer_frame(other, &frame).expect("a frame");
                seen |= !says_equal(&answer);
                match lead.step(&answer).expect("honest") {
                    SyncStep::Frame(next) => frame = next,
                    SyncStep::Fetch => break,
                }
            }
            assert!(seen && !lead.found_nothing());
        }
    }

    #[test]
    fn two_full_archives_come_to_rest() {
        let caps = ArchiveCaps { bytes_of_class: 64 * 1024, authors: 4 };
        let full = |authors| {
            let mut archive = Archive::in_memory(objective()).with_caps(caps);
            fill(&mut archive, authors, 100);
            assert_eq!(archive.len(), 64);
            archive
        };
        let (mut one, mut other) = (full(1..11), full(11..21));
        assert!(reconcile(&mut one, &other).1 > 0);
        assert!(reconcile(&mut other, &one).1 > 0);
        assert_eq!(one.fingerprint(), other.fingerprint());
        assert_eq!((one.len(), reconcile(&mut one, &other).1, reconcile(&mut other, &one).1), (64, 0, 0));
    }

    #[test]
    fn what_found_no_room_is_not_fetched_again() {
        let caps = ArchiveCaps { bytes_of_class: 16 * 1024, authors: 4 };
        let mut small = Archive::in_memory(objective()).with_caps(caps);
        let mut large = Archive::in_memory(objective());
        fill(&mut large, 1..11, 50);
        assert_eq!(reconcile(&mut small, &large).1, 500);
        assert_eq!((small.len(), reconcile(&mut small, &large).1), (16, 0));
    }

    #[test]
    fn a_peer_that_never_comes_to_an_end_is_found_out() {
        let mut archive = Archive::in_memory(objective());
        fill(&mut archive, 1..3, 50);
        let (mut lead, _) = Lead::begin(&archive).expect("begins");
        // One range over everything with a fingerprint of nothing.
        let frame = [&[0x61, 0, 0, 1][..], &[7; 16]].concat();
        let mut steps = 0;
        let misled = loop {
            match lead.step(&frame) {
                Ok(SyncStep::Frame(_)) => steps += 1,
                Ok(SyncStep::Fetch) => panic!("nothing was agreed on"),
                Err(misled) => break misled,
            }
        };
        assert_eq!((misled, steps), (Misled::Endless, MAX_ROUNDS - 1));
        assert_eq!(lead.step(&[9; 30]), Err(Misled::BadFrame));
    }
}
