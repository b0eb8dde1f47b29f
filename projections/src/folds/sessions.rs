//! Sparkplug edge nodes and devices: the state needed to continue their sessions after a restart. A fold.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fact::{DeclaredMetric, Fact};
use crate::fold::{Change, Fold, FoldError, FoldId, Section, Unreadable, whole};
use crate::record::Record;
use crate::stored::type_id;
use crate::{DeviceId, Time};

/// Version of this fold; see [`super::devices::VERSION`].
pub const VERSION: u16 = 1;

/// The sessions of all edge nodes, and the metrics of nodes and devices. A clone shares them with the original.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions(BTreeMap<DeviceId, Arc<Session>>);

/// The newest session records of an edge node or device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// `bdSeq` of the newest birth certificate; edge nodes only.
    pub birth: Option<u64>,
    /// `seq` of the last message, if the agent was stopped cleanly after it; edge nodes only.
    pub seq: Option<u8>,
    /// The metrics of the newest birth certificate.
    pub metrics: Vec<DeclaredMetric>,
}

impl Sessions {
    /// This fold.
    pub const ID: FoldId = FoldId { number: 5, name: "sessions" };

    /// The session of an edge node or device.
    pub fn get(&self, device: DeviceId) -> Option<&Session> {
        self.0.get(&device).map(|session| &**session)
    }

    /// All edge nodes and devices, by number.
    pub fn iter(&self) -> impl Iterator<Item = (DeviceId, &Session)> {
        self.0.iter().map(|(id, session)| (*id, &**session))
    }

    fn session(&mut self, device: DeviceId) -> &mut Session {
        Arc::make_mut(self.0.entry(device).or_default())
    }
}

impl Fold for Sessions {
    #[inline]
    fn change(&mut self, _: &Change<'_>) {}

    fn other(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
        match record.kind.type_id {
            type_id::METRICS_DECLARED | type_id::SESSION_NOTED | type_id::DEVICE_FORGOTTEN => {}
            // From here on the agent runs, and message numbers advance without a record.
            type_id::BOOTED => {
                let noted = self.0.values_mut().filter(|session| session.seq.is_some());
                noted.for_each(|session| Arc::make_mut(session).seq = None);
                return Ok(());
            }
            _ => return Ok(()),
        }
        match record.fact()? {
            Fact::MetricsDeclared { device, metrics } => self.session(device).metrics = metrics,
            Fact::SessionNoted { device, birth, seq } => {
                let session = self.session(device);
                (session.birth, session.seq) = (birth, seq);
            }
            Fact::DeviceForgotten { device } => {
                self.0.remove(&device);
            }
            _ => {}
        }
        Ok(())
    }

    // An edge node whose birth was deleted is asked for it again.
    fn miss(&mut self, _: Time) {}
}

impl Section for Sessions {
    fn id(&self) -> FoldId {
        Sessions::ID
    }

    fn version(&self) -> u16 {
        VERSION
    }

    fn restore(&mut self, version: u16, bytes: &[u8]) -> Result<bool, Unreadable> {
        if version == VERSION {
            *self = whole(bytes)?;
        }
        Ok(version == VERSION)
    }
}
