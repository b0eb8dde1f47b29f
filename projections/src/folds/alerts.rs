//! Alerts that are open: a fold.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::fact::Fact;
use crate::fold::{Change, Fold, FoldError, FoldId, Section, Unreadable, whole};
use crate::record::Record;
use crate::stored::type_id;
use crate::{DeviceId, Seq, Time};

/// Version of this fold; see [`super::devices::VERSION`].
pub const VERSION: u16 = 1;

/// The open alerts, by the position at which they were raised. A clone shares them with the original.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alerts(BTreeMap<Seq, Arc<OpenAlert>>);

/// An alert that is not cleared yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenAlert {
    /// What was raised.
    pub alert: Alert,
    /// Log time of that.
    pub raised: Time,
}

impl Alerts {
    /// This fold.
    pub const ID: FoldId = FoldId { number: 8, name: "alerts" };

    /// The alert that was raised at a position, if it is open.
    pub fn get(&self, raised: Seq) -> Option<&OpenAlert> {
        self.0.get(&raised).map(|open| &**open)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Seq, &OpenAlert)> {
        self.0.iter().map(|(seq, open)| (*seq, &**open))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A forgotten device has no name any more, by which to speak of it.
    fn forget(&mut self, device: DeviceId) {
        self.0.retain(|_, open| open.alert.subject.device() != Some(device));
    }
}

impl Fold for Alerts {
    #[inline]
    fn change(&mut self, _: &Change<'_>) {}

    fn other(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
        if !matches!(
            record.kind.type_id,
            type_id::ALERT_RAISED | type_id::ALERT_CLEARED | type_id::DEVICE_FORGOTTEN
        ) {
            return Ok(());
        }
        match record.fact()? {
            Fact::AlertRaised(alert) => {
                self.0.insert(record.seq, Arc::new(OpenAlert { alert: *alert, raised: record.time }));
            }
            Fact::AlertCleared(cleared) => {
                self.0.remove(&cleared.raised);
            }
            Fact::DeviceForgotten { device } => self.forget(device),
            _ => {}
        }
        Ok(())
    }

    /// An alert whose record was deleted is raised again if it is still so.
    fn miss(&mut self, _: Time) {}
}

impl Section for Alerts {
    fn id(&self) -> FoldId {
        Alerts::ID
    }

    fn version(&self) -> u16 {
        VERSION
    }

    fn is_optional(&self) -> bool {
        self.is_empty()
    }

    fn restore(&mut self, version: u16, bytes: &[u8]) -> Result<bool, Unreadable> {
        if version == VERSION {
            *self = whole(bytes)?;
        }
        Ok(version == VERSION)
    }
}
