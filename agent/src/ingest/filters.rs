//! Which MQTT filters to subscribe to, so that every rule gets its messages and, as far as possible, only once.

use crate::config::Rule;

/// The filters that cover all `rules`, with their QoS, in the order of the rules. A filter inside another one of at least
/// its QoS is left out: brokers send a message once for each overlapping subscription.
pub(super) fn filters(rules: &[Rule]) -> Vec<(String, u8)> {
    let all: Vec<(String, u8)> = rules.iter().map(|rule| (filter_of(&rule.topic), rule.qos)).collect();
    let needed = |index: usize| {
        let (filter, qos) = &all[index];
        !all.iter().enumerate().any(|(other, (wider, wider_qos))| {
            let first_of_equals = wider != filter || wider_qos != qos || other < index;
            other != index && wider_qos >= qos && covers(wider, filter) && first_of_equals
        })
    };
    (0..all.len()).filter(|&index| needed(index)).map(|index| all[index].clone()).collect()
}

/// The MQTT filter of a topic template: captures become wildcards, and nothing follows a `#`.
fn filter_of(template: &str) -> String {
    let mut levels = Vec::new();
    for level in template.split('/') {
        match level.as_bytes().first() {
            Some(b'#') => {
                levels.push("#");
                break;
            }
            Some(b'+') => levels.push("+"),
            _ => levels.push(level),
        }
    }
    levels.join("/")
}

/// Whether every topic that matches `narrow` also matches `wide`.
fn covers(wide: &str, narrow: &str) -> bool {
    // A leading wildcard does not match `$SYS` and its like.
    if narrow.starts_with('$') && !wide.starts_with('$') {
        return false;
    }
    let mut narrow = narrow.split('/');
    for level in wide.split('/') {
        match (level, narrow.next()) {
            // `a/#` matches `a`, too.
            ("#", _) => return true,
            (_, None | Some("#")) => return false,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Decoder, Update};

    fn rule(topic: &str, qos: u8) -> Rule {
        Rule {
            topic: topic.into(),
            qos,
            decoder: Decoder::Json,
            device: "{device}".into(),
            attribute: String::new(),
            root: String::new(),
            when: None,
            update: Update::Merge,
            time: None,
            actions: vec![],
            ignore: vec![],
            online: vec![],
            offline: vec![],
            parent: None,
        }
    }

    fn check(rules: &[(&str, u8)], expected: &[(&str, u8)]) {
        let rules: Vec<_> = rules.iter().map(|(topic, qos)| rule(topic, *qos)).collect();
        let expected: Vec<_> = expected.iter().map(|(filter, qos)| ((*filter).to_owned(), *qos)).collect();
        assert_eq!(filters(&rules), expected);
    }

    #[test]
    fn captures_become_wildcards() {
        check(&[("zigbee2mqtt/+device", 1)], &[("zigbee2mqtt/+", 1)]);
        check(&[("+/x/#", 0)], &[("+/x/#", 0)]);
        check(&[("#device/availability", 1)], &[("#", 1)]);
        check(&[("tele/#device/SENSOR", 1)], &[("tele/#", 1)]);
        check(&[("shelly+x/status", 1)], &[("shelly+x/status", 1)]);
        check(&[("/+device//x", 1)], &[("/+//x", 1)]);
    }

    #[test]
    fn a_filter_inside_another_is_left_out() {
        check(&[("a/+d", 1), ("a/b", 1), ("a/+e", 1)], &[("a/+", 1)]);
        check(&[("a/b/c", 1), ("a/#r", 1), ("a", 0)], &[("a/#", 1)]);
        check(&[("+a/+b", 1), ("+a/+b/+c", 1)], &[("+/+", 1), ("+/+/+", 1)]);
        check(&[("a/+x", 0), ("a/#", 0)], &[("a/#", 0)]);
    }

    #[test]
    fn a_weaker_filter_does_not_replace_a_stronger_one() {
        check(&[("a/#", 0), ("a/b", 1)], &[("a/#", 0), ("a/b", 1)]);
        check(&[("a/b", 0), ("a/b", 1)], &[("a/b", 1)]);
    }

    #[test]
    fn neighbours_stay() {
        check(
            &[("a/b", 1), ("a/c", 1), ("ab/#", 1), ("a/+/c", 1)],
            &[("a/b", 1), ("a/c", 1), ("ab/#", 1), ("a/+/c", 1)],
        );
        check(&[("#", 1), ("$SYS/broker/#", 1)], &[("#", 1), ("$SYS/broker/#", 1)]);
        check(&[("+/#", 1), ("a", 1)], &[("+/#", 1)]);
    }
}
