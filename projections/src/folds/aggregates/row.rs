//! The series of one device.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Series;
use crate::AttrId;

/// In the order of the device's attributes; `None` for one that never was a number. Without any series it uses no
/// memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row(Option<Arc<Vec<Option<Series>>>>);

impl Row {
    pub(super) fn find(&self, attr: AttrId) -> Option<&Series> {
        self.0.as_deref()?.iter().flatten().find(|series| series.attr == attr)
    }

    /// The series at an index, created if missing; copied first if a clone shares it.
    #[inline]
    pub(super) fn series_mut(&mut self, at: usize, new: impl FnOnce() -> Series) -> &mut Series {
        let row = Arc::make_mut(self.0.get_or_insert_default());
        if at >= row.len() {
            row.resize_with(at + 1, || None);
        }
        row[at].get_or_insert_with(new)
    }
}

/// Stored as a list, empty if there are no series.
impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_deref().map_or(&[][..], |row| row).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Row, D::Error> {
        let row = Vec::deserialize(deserializer)?;
        Ok(Row((!row.is_empty()).then(|| Arc::new(row))))
    }
}
