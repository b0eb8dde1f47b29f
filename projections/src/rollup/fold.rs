//! Folds records into the buckets of one period.

use super::Series;
use crate::stored::{Changes, StoredError, type_id};
use crate::{AttrId, Bucket, DeviceId, Record};

/// The open buckets of one period: one for each attribute of each device that changed in it.
#[derive(Debug, Default)]
pub struct Rollup {
    /// By device number, then in the order in which the attributes first appeared.
    devices: Vec<Vec<(AttrId, Bucket)>>,
}

impl Rollup {
    /// Adds the numbers of a record in the window that begins at `start_s`. Records must come in order.
    ///
    /// # Errors
    /// [`StoredError`] if the record is a state change that cannot be read.
    pub fn add(&mut self, record: &Record<'_>, start_s: i64) -> Result<(), StoredError> {
        if record.kind.type_id != type_id::STATE_CHANGED {
            return Ok(());
        }
        let mut changes = Changes::parse(record.kind, record.payload)?;
        let device = self.device(changes.device);
        let mut hint = 0;
        while let Some((attr, value)) = changes.next()? {
            let Some(number) = value.as_number() else { continue };
            // Devices repeat the order of their attributes.
            let at = match device.get(hint) {
                Some((here, _)) if *here == attr => hint,
                _ => device.iter().position(|(here, _)| *here == attr).unwrap_or(device.len()),
            };
            hint = at + 1;
            match device.get_mut(at) {
                Some((_, bucket)) => bucket.add(number),
                None => device.push((attr, Bucket::new(start_s, number))),
            }
        }
        Ok(())
    }

    /// Restores a stored series of the period; once per series, before any record.
    pub fn put(&mut self, series: Series) {
        self.device(series.device).push((series.attr, series.bucket));
    }

    /// Removes all series, in the order of device and attribute.
    pub fn drain(&mut self) -> Vec<Series> {
        let mut all = Vec::new();
        for (buckets, device) in self.devices.iter_mut().zip(0..) {
            buckets.sort_unstable_by_key(|(attr, _)| *attr);
            let series = |(attr, bucket)| Series { device: DeviceId(device), attr, bucket };
            all.extend(buckets.drain(..).map(series));
        }
        all
    }

    fn device(&mut self, device: DeviceId) -> &mut Vec<(AttrId, Bucket)> {
        let at = device.0 as usize;
        if at >= self.devices.len() {
            self.devices.resize_with(at + 1, Vec::new);
        }
        &mut self.devices[at]
    }
}
