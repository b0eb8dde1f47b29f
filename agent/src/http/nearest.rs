//! Suggestions for misspelt names.

/// With more differences it is another name.
const DISTANCE_MAX: usize = 3;
/// Maximum suggestions.
const SUGGESTIONS_MAX: usize = 3;
/// Longer names are not compared: the time is the product of the lengths, for each name.
const COMPARED_BYTES_MAX: usize = 256;

/// The names nearest to `wanted`, best first; empty if none is near.
pub(super) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if wanted.len() > COMPARED_BYTES_MAX {
        return Vec::new();
    }
    let lower = wanted.to_lowercase();
    let mut near: Vec<(usize, &str)> =
        names.filter_map(|name| distance(&lower, &name.to_lowercase()).map(|d| (d, name))).collect();
    near.sort_unstable();
    near.into_iter().take(SUGGESTIONS_MAX).map(|(_, name)| name).collect()
}

/// Edit distance of two names; a name that contains the other counts as just near enough.
fn distance(wanted: &str, name: &str) -> Option<usize> {
    let holds = wanted.len() >= 3 && (name.contains(wanted) || (name.len() >= 3 && wanted.contains(name)));
    let edits = (wanted.len().abs_diff(name.len()) <= 4 * DISTANCE_MAX).then(|| levenshtein(wanted, name));
    // For a short name, fewer edits make another name.
    let max = DISTANCE_MAX.min(wanted.chars().count() / 2);
    edits.filter(|edits| *edits <= max).or(holds.then_some(DISTANCE_MAX))
}

fn levenshtein(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// ` Did you mean …?`, or nothing.
pub(super) fn did_you_mean<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    let near = nearest(wanted, names);
    if near.is_empty() { String::new() } else { format!(" Did you mean {}?", near.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_best_first() {
        let names = ["kitchen/lamp", "kitchen/lamp2", "garage", "Kitchen/Lamb", "ab"];
        let check =
            |wanted: &str, expected: &[&str]| assert_eq!(nearest(wanted, names.into_iter()), expected);
        check("kitchen/lam", &["Kitchen/Lamb", "kitchen/lamp", "kitchen/lamp2"]);
        check("garrage", &["garage"]);
        check("lamp", &["kitchen/lamp", "kitchen/lamp2"]);
        check("xyz", &[]);
        check("", &[]);
        assert!(nearest(&"x".repeat(257), std::iter::once(&*"x".repeat(257))).is_empty());
    }
}
