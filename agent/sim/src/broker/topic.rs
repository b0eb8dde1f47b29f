//! Topic names and filters: validity and matching.

/// Whether a client may publish to `topic`: not empty, no wildcard, no NUL.
pub(crate) fn is_valid_name(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= usize::from(u16::MAX) && !topic.contains(['+', '#', '\0'])
}

/// Whether `filter` may be subscribed to: wildcards fill a whole level, `#` only the last one.
pub(crate) fn is_valid_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let alone = level.len() == 1;
        let multi = level.contains('#');
        if (multi || level.contains('+')) && !alone || multi && levels.peek().is_some() {
            return false;
        }
    }
    true
}

/// Whether `filter` asks for a shared subscription, which this broker does not offer.
pub(crate) fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Whether a valid `filter` matches a valid topic `name`.
pub(crate) fn matches(filter: &str, name: &str) -> bool {
    // Wildcards in first place do not match the server's own topics.
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match names.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of MQTT 5.0 section 4.7, and a few at the edges.
    #[test]
    fn filters_match_as_the_standard_says() {
        let table = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/tennis/player1/#", "sport/tennis/player10", false),
            ("sport/#", "sport", true),
            ("#", "a", true),
            ("#", "/a/b", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player2", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+", "a", true),
            ("+", "/a", false),
            ("+/tennis/#", "sport/tennis", true),
            ("+/tennis/#", "sport/tennis/x", true),
            ("sport/+/player1", "sport/tennis/player1", true),
            ("sport/+/player1", "sport/tennis/x/player1", false),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("+/#", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("$SYS/#", "$SYS", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("ACCOUNTS", "Accounts", false),
            ("Accounts payable", "Accounts payable", true),
            ("/finance", "finance", false),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
            ("a/b", "a/b/", false),
            ("a/b/", "a/b", false),
            ("+/ü", "ä/ü", true),
            ("#", "ä", true),
        ];
        for (filter, name, expected) in table {
            assert_eq!(matches(filter, name), expected, "{filter} on {name}");
        }
    }

    #[test]
    fn filters_are_valid_as_the_standard_says() {
        let valid = ["#", "+", "/", "a/#", "+/tennis/#", "sport/+/player1", "/+", "a//+", "$SYS/#", " "];
        for filter in valid {
            assert!(is_valid_filter(filter), "{filter}");
        }
        let invalid =
            ["", "sport/tennis#", "sport/tennis/#/ranking", "sport+", "##", "++", "#/", "+a/b", "a\0", "é+"];
        for filter in invalid {
            assert!(!is_valid_filter(filter), "{filter}");
        }
    }

    #[test]
    fn names_hold_no_wildcard() {
        for name in ["a", "/", "a/b/", "$SYS/x", "é"] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in ["", "a/+", "#", "a+b", "a\0b"] {
            assert!(!is_valid_name(name), "{name}");
        }
    }
}
