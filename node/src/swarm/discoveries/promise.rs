//! Whose ideas help here: how likely a peer's discovery is to be kept on this node's incumbent.
//!
//! What counts is what became of tries. This node's own tries count in full, those of others as far as their
//! reports agreed with its own. All of the others together count no more than [`MOST_BORROWED`] for one idea,
//! so no crowd can talk it down any further. A failed idea lowers all ideas of its author.
//!
//! Nothing here says that a claim is true: that is for reproductions ([`super::trust`]).

use std::collections::BTreeMap;

use autoswarm_protocol::id::{Author, RecordId};

/// Chance of a newcomer's idea before any was tried, and how many authors that guess weighs as much as.
/// // Wild guess.
const NEWCOMER: f64 = 0.25;
const NEWCOMER_AUTHORS: f64 = 4.0;
/// How many tries two priors weigh as much as: what is expected of newcomers, for one author; and what is
/// expected of the author, for one idea. // Wild guess.
const AUTHOR_PRIOR: f64 = 2.0;
const IDEA_PRIOR: f64 = 2.0;
/// How often an unknown reporter says that an idea helped: of those that helped here, and of those that did
/// not; and how many tries that guess weighs as much as. // Wild guess.
const SAYS_YES: [f64; 2] = [0.4, 0.15];
const SAYS_PRIOR: f64 = 4.0;
/// Most tries that others' reports together count as, for or against an idea.
const MOST_BORROWED: f64 = 3.0;
/// Weight of a report of another idea by the same author, relative to one of the idea itself. // Wild guess.
const OF_ANOTHER: f64 = 0.5;
/// How many tries of an author's ideas are remembered: gains get rarer with time, and an honest author may
/// turn liar. // Wild guess.
const MEMORY: f64 = 20.0;
/// How many helpful tries must be left, after fading, for an author to count as one whose ideas help.
/// // Wild guess.
const HELPED_AT: f64 = 0.5;
/// Most reports of one discovery that are remembered; more say little more.
const MOST_REPORTS: usize = 32;

/// How many tries helped and how many failed, weighted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IdeaTries {
    helped: f64,
    failed: f64,
}

impl IdeaTries {
    fn add(&mut self, helped: bool, weight: f64) {
        *(if helped { &mut self.helped } else { &mut self.failed }) += weight;
    }

    /// Adds a try and lets the older ones fade.
    fn add_fading(&mut self, helped: bool, weight: f64) {
        *self = self.times((1.0 - 1.0 / MEMORY).powf(weight));
        self.add(helped, weight);
    }

    fn count(self) -> f64 {
        self.helped + self.failed
    }

    fn plus(self, other: Self) -> Self {
        Self { helped: self.helped + other.helped, failed: self.failed + other.failed }
    }

    fn times(self, factor: f64) -> Self {
        Self { helped: factor * self.helped, failed: factor * self.failed }
    }

    /// Returns the same tries, counted as no more than [`MOST_BORROWED`].
    fn capped(self) -> Self {
        self.times((MOST_BORROWED / self.count().max(MOST_BORROWED)).min(1.0))
    }

    /// Returns the posterior mean under a prior of this mean, which weighs as much as `weight` tries.
    fn mean(self, prior: f64, weight: f64) -> f64 {
        (self.helped + prior * weight) / (self.count() + weight)
    }
}

/// A discovery as an idea: its author, whether it helped here, and what others report of it.
#[derive(Debug, Clone, Default)]
struct IdeaRecord {
    author: Option<Author>,
    here: Option<bool>,
    reports: BTreeMap<Author, bool>,
}

/// What became of peers' ideas, here and elsewhere.
#[derive(Debug, Default)]
pub(super) struct Promise {
    ideas: BTreeMap<RecordId, IdeaRecord>,
    /// Tries here, by the idea's author.
    authors: BTreeMap<Author, IdeaTries>,
    /// What a reporter said of ideas that helped here (first), and of ideas that did not (second).
    reporters: BTreeMap<Author, [IdeaTries; 2]>,
}

impl Promise {
    /// Takes a discovery; tries and reports of it may have come before.
    pub(super) fn found(&mut self, id: RecordId, author: Author) {
        let idea = self.ideas.entry(id).or_default();
        idea.author = Some(author);
        // Authors' reports of their own ideas do not count, even those that came first.
        idea.reports.remove(&author);
        if let Some(helped) = idea.here {
            self.authors.entry(author).or_default().add_fading(helped, 1.0);
        }
    }

    /// Learns what came of a try here. A failure together with `partners` other ideas says that much less of
    /// each.
    pub(super) fn tried(&mut self, id: RecordId, helped: bool, partners: usize) {
        let idea = self.ideas.entry(id).or_default();
        let weight = if helped { 1.0 } else { 1.0 / (1 + partners) as f64 };
        if let Some(author) = idea.author {
            self.authors.entry(author).or_default().add_fading(helped, weight);
        }
        // Only the first try of an idea alone tells which reporters were right.
        if partners == 0 && idea.here.replace(helped).is_none() {
            for (reporter, said) in &idea.reports {
                self.reporters.entry(*reporter).or_default()[usize::from(!helped)].add(*said, 1.0);
            }
        }
    }

    /// Takes a report of a try elsewhere; of several by one reporter the first counts.
    pub(super) fn told(&mut self, id: RecordId, reporter: Author, helped: bool) {
        let idea = self.ideas.entry(id).or_default();
        if idea.author == Some(reporter)
            || idea.reports.len() >= MOST_REPORTS
            || idea.reports.contains_key(&reporter)
        {
            return;
        }
        idea.reports.insert(reporter, helped);
        if let Some(here) = idea.here {
            self.reporters.entry(reporter).or_default()[usize::from(!here)].add(helped, 1.0);
        }
    }

    /// Returns whether an idea of this author's helped here, not too long ago.
    pub(super) fn has_helped(&self, author: Author) -> bool {
        self.authors.get(&author).is_some_and(|tries| tries.helped >= HELPED_AT)
    }

    /// Returns how much a reporter's word counts: how much more often it says yes of what helps here than of
    /// what does not.
    fn weight(&self, reporter: Author) -> f64 {
        let says = self.reporters.get(&reporter).copied().unwrap_or_default();
        let yes = |k: usize| says[k].mean(SAYS_YES[k], SAYS_PRIOR);
        (yes(0) - yes(1)).max(0.0)
    }

    /// Returns what is expected of an author none of whose ideas was tried: the mean of the other authors,
    /// each with one voice.
    pub(super) fn newcomer(&self) -> f64 {
        let (mut sum, mut total) = (NEWCOMER * NEWCOMER_AUTHORS, NEWCOMER_AUTHORS);
        for tries in self.authors.values().filter(|tries| tries.count() > 0.0) {
            let voice = tries.count() / (tries.count() + 1.0);
            sum += voice * tries.helped / tries.count();
            total += voice;
        }
        sum / total
    }

    /// Returns for every idea the chance that it is kept here.
    pub(super) fn chances(&self) -> BTreeMap<RecordId, f64> {
        let newcomer = self.newcomer();
        let weights: BTreeMap<Author, f64> = self
            .ideas
            .values()
            .flat_map(|idea| idea.reports.keys())
            .map(|it| (*it, self.weight(*it)))
            .collect();
        let known = || self.ideas.iter().filter_map(|(id, idea)| Some((*id, idea.author?, idea)));
        let told = |idea: &IdeaRecord| {
            let mut tries = IdeaTries::default();
            for (reporter, helped) in &idea.reports {
                tries.add(*helped, weights[reporter]);
            }
            tries
        };
        let mut of_authors: BTreeMap<Author, IdeaTries> = BTreeMap::new();
        for (_, author, idea) in known() {
            let all = of_authors.entry(author).or_default();
            *all = all.plus(told(idea));
        }
        let chance = |author: Author, idea: &IdeaRecord| {
            let here = self.authors.get(&author).copied().unwrap_or_default().mean(newcomer, AUTHOR_PRIOR);
            let of_this = told(idea);
            // `of_all` holds this idea's reports too, so together they count in full.
            let of_all = of_authors[&author].times(OF_ANOTHER);
            of_this.times(1.0 - OF_ANOTHER).plus(of_all).capped().mean(here, IDEA_PRIOR)
        };
        known().map(|(id, author, idea)| (id, chance(author, idea))).collect()
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    fn author(n: u8) -> Author {
        Author::of(&Keypair::ed25519_from_bytes([n; 32]).expect("32 bytes are a key")).expect("ed25519")
    }

    fn idea(n: u8) -> RecordId {
        RecordId::of(&[n])
    }

    /// Returns what is known after these tries here, each an author's idea and whether it helped.
    fn tried(tries: &[(u8, bool)]) -> Promise {
        let mut promise = Promise::default();
        for (n, (by, helped)) in (0..).zip(tries) {
            promise.found(idea(n), author(*by));
            promise.tried(idea(n), *helped, 0);
        }
        promise
    }

    fn chance(promise: &mut Promise, by: u8) -> f64 {
        promise.found(idea(200 + by), author(by));
        promise.chances()[&idea(200 + by)]
    }

    #[test]
    fn a_failed_idea_lowers_all_of_its_authors_and_one_that_helped_raises_them() {
        let mut promise = tried(&[(2, false), (2, false), (2, false), (3, true), (4, false)]);
        let [liar, honest, unlucky, new] = [2, 3, 4, 5].map(|by| chance(&mut promise, by));
        assert!(liar < unlucky && unlucky < new && new < honest, "{liar} {unlucky} {new} {honest}");
        assert!(honest > 4.0 * liar, "{honest} {liar}");
        assert!(promise.has_helped(author(3)) && !promise.has_helped(author(2)));
    }

    #[test]
    fn an_author_who_turns_liar_loses_what_he_had_earned() {
        let night = |ideas: &[(usize, bool)]| -> Vec<(u8, bool)> {
            ideas.iter().flat_map(|(count, helped)| vec![(3, *helped); *count]).collect()
        };
        let mut promise = tried(&night(&[(60, true)]));
        assert!(promise.has_helped(author(3)) && chance(&mut promise, 3) > 0.8);
        let mut promise = tried(&night(&[(60, true), (40, false)]));
        assert!(chance(&mut promise, 3) < NEWCOMER);
        let promise = tried(&night(&[(60, true), (80, false)]));
        assert!(!promise.has_helped(author(3)));
        // An author who is right once in four tries stays one who helps.
        let promise = tried(&[(3, true), (3, false), (3, false), (3, false)].repeat(20));
        assert!(promise.has_helped(author(3)));
    }

    #[test]
    fn newcomers_are_expected_to_be_as_the_others_were_and_many_ideas_are_one_voice() {
        let first = Promise::default().newcomer();
        let among_liars: Vec<(u8, bool)> = (0..40).map(|n| (10 + n, false)).collect();
        assert!(tried(&among_liars).newcomer() < 0.3 * first);
        assert!(tried(&[(3, false); 40]).newcomer() > 0.7 * first);
        // An author who helped keeps that chance, however many others fail.
        let mut beside = among_liars;
        beside.extend([(3, true), (3, true)]);
        assert!(chance(&mut tried(&beside), 3) > 1.5 * first);
    }

    #[test]
    fn reports_count_as_far_as_they_agreed_and_together_little() {
        // Reporter 20 was right, 21 denies everything, 22 praises everything; 23 says the opposite.
        let record: Vec<(u8, bool)> = (0..12).map(|n| (2 + n, n % 3 == 0)).collect();
        let mut promise = tried(&record);
        for (n, (_, helped)) in (0..).zip(&record) {
            for (reporter, says) in [(20, *helped), (21, false), (22, true), (23, !helped)] {
                promise.told(idea(n), author(reporter), says);
            }
        }
        let word = |by: u8| promise.weight(author(by));
        let [right, denies, praises, inverts] = [20, 21, 22, 23].map(word);
        let little = |word: f64| word < 0.25 * right;
        assert!(right > 0.5 && little(denies) && little(praises), "{right} {denies} {praises}");
        assert!(inverts < 1e-9, "{inverts}");
        // Eighty strangers weigh as much as three tries: two fifths are left.
        let before = chance(&mut promise, 50);
        for stranger in 100..=180 {
            promise.told(idea(250), author(stranger), false);
        }
        let denied = chance(&mut promise, 50);
        assert!(denied < before && denied > 0.35 * before, "{before} {denied}");
    }

    #[test]
    fn an_authors_word_for_himself_is_not_heard_whichever_came_first() {
        let mut promise = Promise::default();
        let before = chance(&mut promise, 2);
        promise.told(idea(1), author(2), true);
        promise.found(idea(1), author(2));
        promise.told(idea(1), author(2), true);
        assert!((promise.chances()[&idea(1)] - before).abs() < 1e-12);
    }
}
