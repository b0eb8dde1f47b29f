//! The way from the sources to the writers.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::parcel::Parcel;
use crate::wanted::Wanted;

/// Parcels that may wait for one writer.
const QUEUE: usize = 64;
/// Bytes of parcels that may be held at once, in KiB: sources wait for room before they read.
const ROOM_KIB: usize = 256 * 1024;

/// A parcel on its way, and where its fate is told.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) parcel: Parcel,
    pub(crate) reply: oneshot::Sender<Result<(), Refusal>>,
}

/// Why a parcel was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It belongs to another history, or its log has been stopped because of one that did.
    #[error("{0}")]
    Forked(String),
    /// Not at the moment.
    #[error("{0}")]
    Busy(String),
}

/// Hands parcels to the writers.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    writers: Arc<[mpsc::Sender<Job>]>,
    room: Arc<Semaphore>,
    /// What is wanted of gateways, and what they say about it.
    pub(crate) wanted: Arc<Wanted>,
}

impl Intake {
    /// For this many writers; returns what each of them takes from.
    pub(crate) fn new(writers: usize) -> (Intake, Vec<mpsc::Receiver<Job>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..writers).map(|_| mpsc::channel(QUEUE)).unzip();
        let room = Arc::new(Semaphore::new(ROOM_KIB));
        (Intake { writers: senders.into(), room, wanted: Arc::default() }, receivers)
    }

    /// Waits until there is room for a parcel of so many bytes; the room is taken until the permit is dropped.
    pub(crate) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        // What is read from a parcel takes several times its bytes.
        let kib = u32::try_from((bytes / 256).clamp(1, ROOM_KIB)).unwrap_or(u32::MAX);
        self.room.clone().acquire_many_owned(kib).await.ok()
    }

    /// Hands on a parcel. It is stored when this returns `Ok`.
    ///
    /// # Errors
    /// [`Refusal`]; nothing of it is stored then.
    pub(crate) async fn take(&self, parcel: Parcel) -> Result<(), Refusal> {
        // All parcels of a gateway go to the same writer.
        let mut hasher = DefaultHasher::new();
        parcel.manifest().gateway.hash(&mut hasher);
        let writer = &self.writers[(hasher.finish() % self.writers.len() as u64) as usize];
        let stopping = || Refusal::Busy("the hub is being stopped; send it again".into());
        let (reply, answer) = oneshot::channel();
        let lost = parcel.lost.map(|range| (parcel.manifest().clone(), range));
        writer.send(Job { parcel, reply }).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))?;
        if let Some((manifest, range)) = lost {
            self.wanted.lost(&manifest, range);
        }
        Ok(())
    }
}
