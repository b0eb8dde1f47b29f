//! Shared by all transports: the manifest as header fields and as JSON, the events as one body, topics.

use bytes::{BufMut, BytesMut};

use super::Parcel;
use fieldlog_wire::Manifest;

/// Content type of a JSON parcel.
pub(crate) const JSON: &str = fieldlog_wire::cloudevent::BATCH_CONTENT_TYPE;

/// Content type of a compact parcel.
pub(crate) const COMPACT: &str = fieldlog_wire::compact::CONTENT_TYPE;

/// Content type of `parcel`'s body.
pub(crate) fn content_type(parcel: &Parcel) -> &'static str {
    if parcel.compact.is_empty() { JSON } else { COMPACT }
}

/// The payload of a parcel. Its length is known before it is written, so large parcels are written only once.
pub(crate) struct Payload<'a> {
    parcel: &'a Parcel,
    before: String,
    after: &'static str,
}

impl<'a> Payload<'a> {
    /// For carriers that have header fields for the manifest.
    pub(crate) fn plain(parcel: &'a Parcel) -> Payload<'a> {
        Payload { parcel, before: String::new(), after: "" }
    }

    /// For carriers without header fields. The compact format contains the manifest anyway.
    pub(crate) fn with_manifest(parcel: &'a Parcel) -> Payload<'a> {
        if !parcel.compact.is_empty() {
            return Payload::plain(parcel);
        }
        let before = format!("{{\"fieldlog\":{},\"events\":", parcel.manifest.json());
        Payload { parcel, before, after: "}" }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        if !self.parcel.compact.is_empty() {
            return self.parcel.compact.len();
        }
        let items = &self.parcel.items;
        let events: usize = items.iter().map(|item| item.json.len() + 1).sum();
        self.before.len() + events.max(1) + 1 + self.after.len()
    }

    /// Writes it.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        if !self.parcel.compact.is_empty() {
            return out.extend_from_slice(&self.parcel.compact);
        }
        out.extend_from_slice(self.before.as_bytes());
        let mut before = b'[';
        for item in &self.parcel.items {
            out.put_u8(before);
            out.extend_from_slice(&item.json);
            before = b',';
        }
        if self.parcel.items.is_empty() {
            out.put_u8(b'[');
        }
        out.put_u8(b']');
        out.extend_from_slice(self.after.as_bytes());
    }

    /// All of it in one piece.
    pub(crate) fn to_bytes(&self) -> bytes::Bytes {
        if !self.parcel.compact.is_empty() {
            return self.parcel.compact.clone();
        }
        let mut out = BytesMut::with_capacity(self.len());
        self.put(&mut out);
        out.freeze()
    }
}

/// A topic or subject, with `{gateway}`, `{lane}` and `{epoch}` filled in.
pub(crate) fn expand(template: &str, manifest: &Manifest) -> String {
    template
        .replace("{gateway}", &manifest.gateway)
        .replace("{lane}", manifest.lane.name())
        .replace("{epoch}", &manifest.epoch.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use fieldlog_projections::{ChainHash, Epoch, Seq, Time};

    use super::super::Item;
    use fieldlog_wire::Lane;

    use super::*;

    /// A JSON parcel of these positions, each event about 100 bytes long.
    pub(crate) fn parcel(first: u64, last: u64) -> Parcel {
        let epoch = Epoch(0x1f);
        let event = |seq: u64| Item {
            seq: Seq(seq),
            device: Some(format!("room/{}", seq % 3).into()),
            kind: "state_changed",
            json: Bytes::from(format!(
                "{{\"specversion\":\"1.0\",\"id\":\"gw-1/{epoch}/{seq}\",\"data\":{{\"n\":{seq}}}}}"
            )),
        };
        Parcel {
            manifest: Manifest {
                gateway: "gw-1".into(),
                epoch,
                first: Seq(first),
                last: Seq(last),
                lane: Lane::Live,
                before: ChainHash::origin(epoch),
                after: ChainHash::origin(epoch).after(&last.to_le_bytes()),
                head: Seq(last + 1),
                events: u32::try_from(last + 1 - first).unwrap(),
            },
            items: (first..=last).map(event).collect(),
            compact: Bytes::new(),
            oldest: Time(0),
            size: 100 * (last + 1 - first) as usize,
            resent: None,
        }
    }

    fn written(body: &Payload<'_>) -> String {
        let mut out = BytesMut::new();
        body.put(&mut out);
        assert_eq!(out.len(), body.len());
        assert_eq!(out, body.to_bytes());
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn bodies_are_json_and_as_long_as_announced() {
        for count in [0, 1, 3] {
            let mut parcel = parcel(7, 9);
            parcel.items.truncate(count);
            let array: Vec<serde_json::Value> =
                serde_json::from_str(&written(&Payload::plain(&parcel))).unwrap();
            assert_eq!(array.len(), count);
            let object: serde_json::Value =
                serde_json::from_str(&written(&Payload::with_manifest(&parcel))).unwrap();
            assert_eq!(object["events"], serde_json::Value::Array(array));
            let said = &object["fieldlog"];
            assert_eq!((&said["gateway"], &said["epoch"]), (&"gw-1".into(), &"000000000000001f".into()));
            assert_eq!(
                (&said["first"], &said["last"], &said["lane"]),
                (&7.into(), &9.into(), &"live".into())
            );
        }
        let mut parcel = parcel(1, 1);
        parcel.compact = Bytes::from_static(b"FLC1");
        assert_eq!(written(&Payload::plain(&parcel)), "FLC1");
        assert_eq!(written(&Payload::with_manifest(&parcel)), "FLC1");
        assert_eq!(content_type(&parcel), COMPACT);
    }

    #[test]
    fn a_manifest_survives_its_fields() {
        let manifest = parcel(5, 12).manifest;
        let fields = manifest.fields();
        let find = |name: &str| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| &value[..]);
        assert_eq!(Manifest::read(find).ok(), Some(manifest.clone()));
        assert_eq!(Manifest::read(|name| find(name).filter(|_| name != "after")).ok(), None);
        assert_eq!(manifest.identity(), "gw-1/000000000000001f/5-12");
        let priority = Manifest { lane: Lane::Priority, ..manifest };
        assert_eq!(priority.identity(), "gw-1/000000000000001f/5-12/priority");
    }

    #[test]
    fn topics_are_filled_in() {
        let manifest = parcel(1, 1).manifest;
        assert_eq!(expand("a/{gateway}/{lane}/{epoch}/{x}", &manifest), "a/gw-1/live/000000000000001f/{x}");
    }
}
