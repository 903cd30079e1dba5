//! The thread that keeps git level with the archive while a node runs. The research waits for nothing here.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use autoswarm_protocol::{id::Author, swarm_config::Objective};
use tokio::sync::oneshot;

use super::{Imported, Records, Writer, import, incoming};
use crate::{base::hint::hinted, swarm::network::RecordsOf};

/// How long records gather before they are written. One pack for all that a busy minute brings would do too.
const EVERY: Duration = Duration::from_secs(10);
/// Most syncs that wait for their turn.
const MAX_SYNCS: usize = 2;

/// Where the result of a sync goes.
type Asker = oneshot::Sender<anyhow::Result<Imported>>;

/// The running thread. Dropping it lets it finish its batch and end.
#[derive(Debug)]
pub struct GitMirror {
    syncs: Option<SyncSender<Asker>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl GitMirror {
    /// Starts writing what `records` hold into the journal of `home`.
    pub fn start(
        home: &Path,
        node: Author,
        objective: Objective,
        records: RecordsOf,
    ) -> anyhow::Result<Self> {
        let (syncs, asked) = sync_channel(MAX_SYNCS);
        let stop = Arc::new(AtomicBool::new(false));
        let (home, stopped) = (home.to_owned(), Arc::clone(&stop));
        let worker = Worker {
            home,
            node,
            objective,
            records,
            stop: stopped,
            writer: None,
            written: None,
            trouble: String::new(),
        };
        let thread =
            std::thread::Builder::new().name("swarm-git".to_owned()).spawn(move || worker.run(&asked))?;
        Ok(Self { syncs: Some(syncs), stop, thread: Some(thread) })
    }

    /// Takes what a `node sync` left in the home. `asker` hears what came of it once git has everything.
    pub fn sync(&self, asker: Asker) {
        let Some(syncs) = &self.syncs else { return };
        if let Err(TrySendError::Full(asker) | TrySendError::Disconnected(asker)) = syncs.try_send(asker) {
            let busy = hinted("the node is busy with another sync", "try again in a moment");
            // Whoever asked may be gone.
            let _ = asker.send(Err(busy));
        }
    }
}

impl Drop for GitMirror {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.syncs = None;
        if let Some(thread) = self.thread.take() {
            // The thread says itself what went wrong.
            let _ = thread.join();
        }
    }
}

struct Worker {
    home: PathBuf,
    node: Author,
    objective: Objective,
    records: RecordsOf,
    stop: Arc<AtomicBool>,
    writer: Option<Writer>,
    /// The archive's fingerprint when git was last level with it.
    written: Option<String>,
    /// The error of the last round, so that the same one is said only once.
    trouble: String,
}

impl Worker {
    fn run(mut self, asked: &Receiver<Asker>) {
        loop {
            let result = self.catch_up();
            self.say(result);
            match asked.recv_timeout(EVERY) {
                Ok(asker) => {
                    // Whoever asked may be gone.
                    let _ = asker.send(self.sync());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn sync(&mut self) -> anyhow::Result<Imported> {
        let imported = import(&incoming(&self.home), &mut self.records)?;
        self.round()?;
        Ok(imported)
    }

    /// Writes what is new since the last time.
    fn catch_up(&mut self) -> anyhow::Result<()> {
        // Read before the round: what comes during it is written the next time.
        let now = Some(self.records.fingerprint());
        if now != self.written {
            self.round()?;
            self.written = now;
        }
        Ok(())
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => Writer::open(&self.home.join("journal"), self.node, self.objective.clone())?,
        };
        let written = writer.round(&mut self.records, &self.stop)?;
        tracing::debug!("into git: {written:?}");
        // Put back only now, so that after an error it is opened anew.
        self.writer = Some(writer);
        Ok(())
    }

    fn say(&mut self, result: anyhow::Result<()>) {
        let trouble = result.map_or_else(|error| format!("{error:#}"), |()| String::new());
        let is_over = self.stop.load(Ordering::Relaxed) || self.records.is_over();
        if !trouble.is_empty() && trouble != self.trouble && !is_over {
            tracing::warn!("cannot write the swarm's records into git now: {trouble}; tried again");
        }
        self.trouble = trouble;
    }
}

impl Records for RecordsOf {
    fn ids(&mut self) -> anyhow::Result<Vec<autoswarm_protocol::id::RecordId>> {
        self.held_ids()
    }

    fn get(&mut self, ids: &[autoswarm_protocol::id::RecordId]) -> anyhow::Result<Vec<Vec<u8>>> {
        self.held(ids)
    }

    fn take(
        &mut self,
        records: Vec<Vec<u8>>,
    ) -> anyhow::Result<Vec<Result<crate::swarm::network::archive::Taken, autoswarm_protocol::record::Fault>>>
    {
        self.hand_over(records)
    }
}
