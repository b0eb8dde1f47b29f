//! The few forms of Home Assistant templates that select a place in a document without changing the value.

/// Filters that change how a value is written, but not its meaning.
const FILTERS: [&str; 5] = ["is_defined", "float", "int", "string", "round"];

/// The place of the template's value, levels joined by dots; empty: the payload itself. `None` for any other template.
pub(super) fn path(template: &str) -> Option<String> {
    let inner = template.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim().trim_matches('-').trim();
    let mut parts = inner.split('|').map(str::trim);
    let expression = parts.next()?;
    let harmless = |filter: &str| FILTERS.contains(&filter.split('(').next().unwrap_or_default().trim());
    if !parts.all(harmless) {
        return None;
    }
    match expression.strip_prefix("value_json") {
        None => (expression == "value").then(String::new),
        Some(rest) => keys(rest).filter(|keys| !keys.is_empty()).map(|keys| keys.join(".")),
    }
}

/// `.a.b`, `["a"]['b']`, or both.
fn keys(mut rest: &str) -> Option<Vec<&str>> {
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (key, after) = if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
            after.split_at(end)
        } else {
            let after = rest.strip_prefix('[')?;
            let quote = after.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
            let (key, after) = after[1..].split_once(quote)?;
            (key, after.strip_prefix(']')?)
        };
        if key.is_empty() || key.contains('\\') {
            return None;
        }
        keys.push(key);
        rest = after;
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn places_are_found_and_calculations_are_not() {
        let check = |template: &str, expected: Option<&str>| {
            assert_eq!(path(template).as_deref(), expected, "{template}")
        };
        check("{{ value_json.temperature }}", Some("temperature"));
        check("{{value_json.POWER1}}", Some("POWER1"));
        check("{{ value_json[\"temperature\"] }}", Some("temperature"));
        check("{{ value_json['ENERGY']['Power'] }}", Some("ENERGY.Power"));
        check("{{ value_json['SI7021'].Temperature }}", Some("SI7021.Temperature"));
        check("{{ value_json.AM2301.Humidity | round(1) }}", Some("AM2301.Humidity"));
        check("{{ value_json.x | is_defined }}", Some("x"));
        check("{{ value }}", Some(""));
        check("{{ value | float }}", Some(""));
        check("{{ value_json.x * 0.1 }}", None);
        check("{{ value_json.x | multiply(0.1) }}", None);
        check("{{ value_json.list[0] }}", None);
        check("{{ 'ON' if value_json.x else 'OFF' }}", None);
        check("{% if value_json.x %}1{% endif %}", None);
        check("{{ value_json }}", None);
        check("{{ value_json.}}", None);
        check("value_json.x", None);
        check("", None);
        check("{{ value_json[\"a\\\"b\"] }}", None);
        check("{{ value_json[\"ä\"] }}", Some("ä"));
        check("{{ value_json[ä] }}", None);
    }
}
