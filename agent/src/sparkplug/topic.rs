//! Topics: `spBv1.0/GROUP/VERB/NODE[/DEVICE]` (section 4).

use super::NAMESPACE;

/// The kind of a message, of those that a host application takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// NBIRTH or DBIRTH.
    Birth,
    /// NDATA or DDATA.
    Data,
    /// NDEATH or DDEATH.
    Death,
}

/// The sender of a message, and its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparkplugTopic<'a> {
    /// Group.
    pub group: &'a str,
    /// Edge node.
    pub node: &'a str,
    /// Device behind the edge node; `None` for a message of the node itself.
    pub device: Option<&'a str>,
    /// Its kind.
    pub verb: Verb,
}

/// Whether a topic is in Sparkplug's namespace.
pub fn is_sparkplug(topic: &[u8]) -> bool {
    topic.strip_prefix(NAMESPACE.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
}

impl<'a> SparkplugTopic<'a> {
    /// Parses a topic; `None` for one that a host application does not take, such as a command or another host's STATE.
    pub fn parse(topic: &'a str) -> Option<SparkplugTopic<'a>> {
        let mut levels = topic.split('/');
        if levels.next() != Some(NAMESPACE) {
            return None;
        }
        let (group, verb, node) = (levels.next()?, levels.next()?, levels.next()?);
        let (device, rest) = (levels.next(), levels.next());
        let verb = match (verb, device) {
            ("NBIRTH", None) | ("DBIRTH", Some(_)) => Verb::Birth,
            ("NDATA", None) | ("DDATA", Some(_)) => Verb::Data,
            ("NDEATH", None) | ("DDEATH", Some(_)) => Verb::Death,
            _ => return None,
        };
        let named = !group.is_empty() && !node.is_empty() && device != Some("") && rest.is_none();
        named.then_some(SparkplugTopic { group, node, device, verb })
    }
}

/// The filters for the messages of a group, or of all with `+`. Their QoS is that of publication, so that no message
/// that may have to wait for its order needs an acknowledgement. Commands are not included.
pub fn filters(group: &str) -> [(String, u8); 6] {
    let node = |verb: &str, qos| (format!("{NAMESPACE}/{group}/{verb}/+"), qos);
    let device = |verb: &str| (format!("{NAMESPACE}/{group}/{verb}/+/+"), 0);
    [
        node("NBIRTH", 0),
        node("NDATA", 0),
        node("NDEATH", 1),
        device("DBIRTH"),
        device("DDATA"),
        device("DDEATH"),
    ]
}
