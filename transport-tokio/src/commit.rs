//! Puts changes of the session on disk, one batch at a time.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

#[cfg(feature = "persistence")]
use crate::disk::{Disk, SessionFileError};
use crate::{
    error::{ConnectError, ConnectionError},
    kept::{Changes, Kept, Queued},
    options::Options,
    shared::Shared,
};

/// Without a session file there is nothing to do.
#[derive(Default)]
pub(crate) struct Committer {
    #[cfg(feature = "persistence")]
    disk: Place,
}

/// Where the open file is.
#[cfg(feature = "persistence")]
#[derive(Default)]
enum Place {
    /// There is none, or it failed.
    #[default]
    None,
    Idle(Disk),
    /// With a blocking task.
    Busy(tokio::task::JoinHandle<Result<Disk, SessionFileError>>),
}

/// A store, what waits in the queue, and where changes of both go.
pub(crate) type Opened = (Committer, Kept, Vec<Queued>);

#[cfg(not(feature = "persistence"))]
impl Committer {
    pub(crate) fn open(options: &Options) -> Result<Opened, ConnectError> {
        Ok((Self::default(), Kept::new(options.store_limits(), false), Vec::new()))
    }

    pub(crate) const fn is_on_disk(&self) -> bool {
        false
    }

    pub(crate) fn poll_idle(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    pub(crate) fn begin(&mut self, _: &Arc<Shared>, _: u64, _: Changes) {}
}

#[cfg(feature = "persistence")]
impl Committer {
    /// Opens the session file, if there is to be one.
    pub(crate) fn open(options: &Options) -> Result<Opened, ConnectError> {
        let limits = options.store_limits();
        let Some(file) = &options.session_file else {
            return Ok((Self::default(), Kept::new(limits, false), Vec::new()));
        };
        let failed = |error| ConnectionError::SessionFile(Arc::new(error));
        let (disk, restored) =
            Disk::open(file, &options.client_id, options.version).map_err(failed)?;
        let restored = Kept::restore(limits, options.version, restored);
        let (kept, queue) = restored.map_err(|_| failed(SessionFileError::TooLarge))?;
        Ok((Self { disk: Place::Idle(disk) }, kept, queue))
    }

    pub(crate) const fn is_on_disk(&self) -> bool {
        !matches!(self.disk, Place::None)
    }

    /// Waits until the last batch is on disk.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let Place::Busy(task) = &mut self.disk else { return Poll::Ready(Ok(())) };
        let done = std::task::ready!(std::pin::Pin::new(task).poll(cx));
        let result = match done {
            Ok(Ok(disk)) => {
                self.disk = Place::Idle(disk);
                return Poll::Ready(Ok(()));
            }
            Ok(Err(error)) => error,
            Err(error) => SessionFileError::Io(error.into()), // the runtime is being shut down
        };
        self.disk = Place::None;
        Poll::Ready(Err(ConnectionError::SessionFile(Arc::new(result))))
    }

    /// Puts a batch on disk; to be called when idle. Who waits for it is told by its number.
    pub(crate) fn begin(&mut self, shared: &Arc<Shared>, batch: u64, changes: Changes) {
        if changes.is_empty() {
            shared.durable.send_modify(|durable| durable.batch = batch);
            return;
        }
        let Place::Idle(mut disk) = std::mem::take(&mut self.disk) else { return };
        let shared = Arc::clone(shared);
        self.disk = Place::Busy(tokio::task::spawn_blocking(move || {
            disk.commit(&changes)?;
            shared.durable.send_modify(|durable| durable.batch = batch);
            Ok(disk)
        }));
    }
}
