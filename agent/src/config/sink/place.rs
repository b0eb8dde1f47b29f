//! The topics and subjects that a sink uses.

use fieldlog_wire::Lane;

/// A topic or subject as expanded, except the epoch, of which only the length is known.
pub(super) fn expand(template: &str, gateway_id: &str, lane: Lane) -> String {
    template
        .replace("{gateway}", gateway_id)
        .replace("{lane}", lane.name())
        .replace("{epoch}", "0000000000000000")
}

/// A subject that can be published to. Those that begin with `$` belong to the server.
pub(super) fn is_subject(text: &str) -> bool {
    let good = |c: char| !c.is_whitespace() && !c.is_control() && !"*>".contains(c);
    !text.starts_with('$') && text.split('.').all(|token| !token.is_empty() && token.chars().all(good))
}
