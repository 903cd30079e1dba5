//! What becomes of a gossip message: it is known, over a quota, new or faulty.
//!
//! Rejecting a message costs whoever relayed it its standing. Hence **only what every honest node would
//! refuse from the bytes alone is rejected**; everything else is at most ignored.

use autoswarm_protocol::{
    id::RecordId,
    record::{self, Blame, Body, Verified},
};
use libp2p::{PeerId, gossipsub::MessageAcceptance};

use super::state::Task;
use crate::{
    base::clock::unix_now,
    swarm::network::{
        archive::{Archive, Taken},
        messages::NetworkEvent,
    },
};

impl Task {
    pub(super) fn gossiped(&mut self, relayed_by: PeerId, bytes: &[u8]) -> MessageAcceptance {
        let now = self.now();
        // Old records can be replayed for ever, so they must cost no more than a look-up.
        let id = RecordId::of(bytes);
        if self.archive.get(id).is_some() || self.archive.refuses(id) {
            return MessageAcceptance::Ignore;
        }
        // The quota comes before the check of the signature, which is the expensive part.
        let glance = record::glance(bytes);
        let is_known = glance.is_some_and(|glance| self.archive.knows(glance.author));
        if !self.quotas.may_relay(relayed_by, glance, is_known, now) {
            self.counts.over_quota += 1;
            // What is ignored here does not come again by gossip; only a reconciliation brings it.
            self.wake();
            return MessageAcceptance::Ignore;
        }
        let taken = match self.archive.check(bytes, unix_now()) {
            // Old intents can be replayed too. Nobody holds them, so no look-up stops them; their age does.
            Ok(record) if is_over(&record, unix_now()) => return MessageAcceptance::Ignore,
            Ok(record) if !self.quotas.may_say(&record, now) => {
                self.counts.over_quota += 1;
                self.wake();
                return MessageAcceptance::Ignore;
            }
            Ok(record) => self.archive.take(record, bytes),
            Err(fault) => {
                return match fault.blame() {
                    Blame::Ignore => MessageAcceptance::Ignore,
                    Blame::Reject => {
                        self.counts.faulty += 1;
                        MessageAcceptance::Reject
                    }
                };
            }
        };
        match taken {
            Taken::New(record) | Taken::Passing(record) => {
                self.counts.gossiped += 1;
                if lacks_what_it_names(&self.archive, record.value()) {
                    self.wake();
                }
                self.tell(NetworkEvent::Record { record, relayed_by });
                MessageAcceptance::Accept
            }
            Taken::Known | Taken::NoRoom => MessageAcceptance::Ignore,
        }
    }
}

/// Returns whether the archive lacks a record that this one names: gossip has lost it.
fn lacks_what_it_names(archive: &Archive, body: &Body) -> bool {
    match body {
        Body::Attestation(attestation) => archive.get(attestation.discovery).is_none(),
        Body::Discovery(discovery) => discovery.inspirations.iter().any(|id| archive.get(*id).is_none()),
        Body::Digest(_) | Body::Claim(_) => false,
    }
}

/// Returns whether a record is an intent whose time is over.
fn is_over(record: &Verified<Body>, now: u64) -> bool {
    matches!(record.value(), Body::Claim(claim) if record.made_at().saturating_add(claim.seconds.into()) < now)
}
