//! Saves what has changed, one batch at a time, in a thread where it may block.

use std::{
    io,
    ops::RangeInclusive,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use mqtt_core::{
    Instant,
    broker::{Broker, Key, Large, RestoreError},
};
use tokio::task::{self, JoinHandle};

use super::{
    Persistence, PersistenceError, ServeError,
    ledger::{Keys, Ledger},
    shard::Shard,
};
use crate::disk::{Archive, Batch, Durability, SessionFileError};

/// The formats of records that can be read; the last is written.
const FORMATS: RangeInclusive<u32> = Broker::<Large>::OLDEST_RECORDS..=Broker::<Large>::RECORDS;

/// What the file is called.
const NAME: &str = "broker.redb";

/// How long what nobody waits for may be unsaved, in milliseconds.
const LAZY: u64 = 1_000;

/// How long after a failure saving is tried again, in milliseconds.
const RETRY: u64 = 5_000;

/// Where a broker is to be saved, and what that survives.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) directory: PathBuf,
    pub(super) durability: Durability,
}

/// Where it is saved.
pub(super) struct Saver {
    path: Arc<PathBuf>,
    durability: Durability,
    file: File,
    /// Something has changed, and is to be saved by then.
    due: Option<Instant>,
    told: Persistence,
    /// When the broker had what was in the file.
    restored_at: Instant,
}

enum File {
    Idle(Archive),
    /// With a blocking task.
    Saving(JoinHandle<Result<Archive, (SessionFileError, Batch)>>),
    /// It failed, and is to be opened again then.
    Failed(Instant),
    Opening(JoinHandle<Result<(Archive, bool), SessionFileError>>),
}

/// What has become of a batch, or of the file.
enum Progress {
    /// The batch is saved.
    Saved,
    /// It is not: these are its keys.
    Failed(Keys),
    /// The file is new, and everything is to be saved.
    Anew,
    Opened,
}

/// A broker with what was kept, and the keys of records that make no sense.
type Restored = (Broker<Large>, Vec<Box<[u8]>>);

/// What was kept is more than the limits allow.
struct TooMuch;

/// What a broker begins with that has been restored.
pub(super) type Begun = (Saver, Vec<Box<[u8]>>);

impl Terms {
    /// Opens the file, and makes a broker of what is in it. Blocks.
    fn open(
        self,
        now: Instant,
        make: impl Fn() -> Broker<Large>,
    ) -> Result<Result<(Saver, Restored), TooMuch>, SessionFileError> {
        let Self { directory, durability } = self;
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(NAME);
        let restore = |archive: &Archive| {
            let (mut core, mut bad, mut fits) = (make(), Vec::new(), true);
            archive.read(|key, record| {
                if let Err(problem) = core.restore(now, key, record) {
                    fits &= problem != RestoreError::Limit;
                    tracing::error!(%problem, key = ?Key::from_bytes(key), "a record is skipped");
                    bad.push(key.into());
                }
            })?;
            Ok((core, bad, fits))
        };
        let (archive, (core, bad, fits), aside) =
            Archive::open_or_replace(&path, durability, FORMATS, restore)?;
        if !fits {
            return Ok(Err(TooMuch)); // nothing is lost: larger limits take it
        }
        let told = Persistence {
            skipped: bad.len() as u64,
            set_aside: u64::from(aside.is_some()),
            ..Persistence::default()
        };
        let file = File::Idle(archive);
        let path = Arc::new(path);
        let saver = Saver { path, durability, file, due: None, told, restored_at: now };
        Ok(Ok((saver, (core, bad))))
    }
}

/// Why a broker's file cannot be used.
fn reason(error: SessionFileError) -> PersistenceError {
    match error {
        SessionFileError::Io(error) => PersistenceError::Io(error),
        SessionFileError::InUse => PersistenceError::InUse,
        SessionFileError::Format(format) => PersistenceError::Format(format),
        SessionFileError::Damaged(problem) => PersistenceError::Io(io::Error::other(problem)),
        error => PersistenceError::Io(io::Error::other(error)),
    }
}

/// The same in a thread where it may block.
pub(super) async fn open(
    terms: Terms,
    now: Instant,
    make: impl Fn() -> Broker<Large> + Send + 'static,
) -> Result<(Broker<Large>, Option<Begun>), ServeError> {
    let file = terms.directory.join(NAME);
    let opened = task::spawn_blocking(move || terms.open(now, make)).await;
    match opened.unwrap_or_else(|error| Err(SessionFileError::Io(error.into()))) {
        Ok(Ok((saver, (core, bad)))) => Ok((core, Some((saver, bad)))),
        Ok(Err(TooMuch)) => Err(ServeError::Persistence { file, error: PersistenceError::Limits }),
        Err(error) => Err(ServeError::Persistence { file, error: reason(error) }),
    }
}

impl Saver {
    /// What has become of what was begun.
    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Progress> {
        match &mut self.file {
            File::Idle(_) => Poll::Pending,
            File::Saving(task) => {
                let done = ready!(Pin::new(task).poll(cx));
                Poll::Ready(self.on_saved(done, now))
            }
            File::Opening(task) => {
                let done = ready!(Pin::new(task).poll(cx));
                self.on_opened(done, now)
            }
            File::Failed(at) if *at <= now => {
                let (path, durability) = (Arc::clone(&self.path), self.durability);
                let mut task = task::spawn_blocking(move || {
                    let opened = Archive::open_or_replace(&path, durability, FORMATS, |_| Ok(()))?;
                    let (archive, (), aside) = opened;
                    let replaced = aside.is_some();
                    Ok((archive, replaced))
                });
                // That it is woken.
                let done = Pin::new(&mut task).poll(cx);
                self.file = File::Opening(task);
                match done {
                    Poll::Ready(done) => self.on_opened(done, now),
                    Poll::Pending => Poll::Pending,
                }
            }
            File::Failed(_) => Poll::Pending,
        }
    }

    fn on_saved(
        &mut self,
        done: Result<Result<Archive, (SessionFileError, Batch)>, task::JoinError>,
        now: Instant,
    ) -> Progress {
        match done {
            Ok(Ok(archive)) => {
                self.told.commits += 1;
                self.told.is_failing = false;
                self.file = File::Idle(archive);
                Progress::Saved
            }
            Ok(Err((error, batch))) => {
                self.fail(error, now);
                Progress::Failed(batch.into_iter().map(|(key, _)| key).collect())
            }
            // It panicked, or the runtime is being shut down. Nobody knows any more what was in it.
            Err(error) => {
                self.fail(SessionFileError::Io(error.into()), now);
                Progress::Anew
            }
        }
    }

    fn on_opened(
        &mut self,
        done: Result<Result<(Archive, bool), SessionFileError>, task::JoinError>,
        now: Instant,
    ) -> Poll<Progress> {
        match done.unwrap_or_else(|error| Err(SessionFileError::Io(error.into()))) {
            Ok((archive, replaced)) => {
                self.told.set_aside += u64::from(replaced);
                let is_new = archive.is_new;
                self.file = File::Idle(archive);
                Poll::Ready(if is_new { Progress::Anew } else { Progress::Opened })
            }
            Err(error) => {
                self.fail(error, now);
                Poll::Pending
            }
        }
    }

    fn fail(&mut self, error: SessionFileError, now: Instant) {
        let (error, file) = (reason(error), self.path.display());
        tracing::error!(%error, %file, "nothing can be saved: QoS 1 and 2 wait");
        self.told.failures += 1;
        self.told.is_failing = true;
        self.file = File::Failed(now + RETRY);
    }

    /// When something is to be done, if nothing happens before.
    fn deadline(&self) -> Option<Instant> {
        match self.file {
            File::Idle(_) => self.due,
            File::Failed(at) => Some(at),
            File::Saving(_) | File::Opening(_) => None,
        }
    }

    /// Saves a batch.
    fn begin(&mut self, batch: Batch) {
        let file = std::mem::replace(&mut self.file, File::Failed(Instant::default()));
        let File::Idle(mut archive) = file else { return };
        self.due = None;
        self.file = File::Saving(task::spawn_blocking(move || match archive.commit(&batch) {
            Ok(()) => Ok(archive),
            Err(error) => Err((error, batch)),
        }));
    }
}

impl Shard {
    /// What was kept is there, but for records that make no sense; from now on everything is saved.
    pub(super) fn restored(&mut self, saver: Saver, bad: Vec<Box<[u8]>>) {
        let Self { core, host, .. } = self;
        let mut ledger = Ledger::default();
        bad.into_iter().for_each(|key| ledger.mend(key));
        host.ledger = Some(ledger);
        host.now = host.clock.now();
        core.restored(saver.restored_at, host);
        host.finish();
        self.saver = Some(saver);
    }

    /// Saves what is to be saved, as soon as what was begun before is saved.
    pub(super) fn save(&mut self, cx: &mut Context<'_>) {
        let Self { core, host, saver, leaving, .. } = self;
        let Some(saver) = saver else { return };
        let now = host.now;
        loop {
            match saver.poll(cx, now) {
                Poll::Ready(Progress::Saved) => host.saved(),
                Poll::Ready(Progress::Failed(keys)) => host.unsaved(keys),
                Poll::Ready(Progress::Anew) => {
                    let mut keys = Keys::new();
                    core.records(|key| keys.extend([key.to_bytes()]));
                    host.unsaved(keys);
                }
                Poll::Ready(Progress::Opened) => {}
                Poll::Pending => {}
            }
            let Some(is_urgent) = host.is_unsaved() else { return };
            let due = *saver.due.get_or_insert(now + LAZY);
            let is_due = is_urgent || due <= now || leaving.is_some();
            if !is_due || !matches!(saver.file, File::Idle(_)) {
                return;
            }
            saver.begin(host.seal().into_iter().map(|key| record(core, key)).collect());
        }
    }

    /// When there is something to be saved, if nothing happens before.
    pub(super) fn save_deadline(&self) -> Option<Instant> {
        self.saver.as_ref().and_then(Saver::deadline)
    }

    /// Whether all is saved that can be. If not, the task is woken when something has been.
    pub(super) fn is_saved(&mut self, cx: &mut Context<'_>) -> bool {
        self.save(cx);
        let saver = self.saver.as_ref();
        saver.is_none_or(|saver| match saver.file {
            File::Idle(_) => self.host.is_unsaved().is_none(),
            File::Saving(_) | File::Opening(_) => false,
            File::Failed(_) => true,
        })
    }

    pub(super) fn persistence(&self) -> Persistence {
        self.saver.as_ref().map(|saver| saver.told).unwrap_or_default()
    }
}

/// What becomes of a record.
fn record(core: &Broker<Large>, key: Box<[u8]>) -> (Box<[u8]>, Option<Box<[u8]>>) {
    let mut bytes = Vec::new();
    let known = Key::from_bytes(&key).is_some_and(|key| core.record(key, &mut bytes));
    (key, known.then(|| bytes.into_boxed_slice()))
}
