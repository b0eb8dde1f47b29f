//! Suggestions for what an operator probably meant.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::keys;

/// What to do about an unknown key of the table `label`.
pub(super) fn unknown_hint(key: &str, known: &[&'static str], label: &str) -> String {
    // A secret has no key of its own, so the nearest key would be the wrong suggestion.
    for (secret, file) in [("password", "password_file"), ("token", "token_file")] {
        if key == secret && known.contains(&file) {
            return format!("write it to a file and name the file in {file}");
        }
    }
    if let Some(hint) = did_you_mean(key, known) {
        return hint;
    }
    match keys::home(key) {
        Some(table) if table != label => format!("it belongs to [{table}]"),
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// A known word that resembles the given one.
pub(super) fn did_you_mean(word: &str, known: &[&str]) -> Option<String> {
    let lower = word.to_lowercase().replace('-', "_");
    let distance = |candidate: &&&str| {
        // `keep_alive` for `keep_alive_s`: the unit is missing or differs.
        let stem = candidate.rsplit_once('_').map_or(**candidate, |(stem, _)| stem);
        let whole = strsim::damerau_levenshtein(&lower, candidate);
        if lower == stem || lower.rsplit_once('_').is_some_and(|(s, _)| s == stem && stem.contains('_')) {
            whole.min(1)
        } else {
            whole
        }
    };
    let nearest = known.iter().min_by_key(distance)?;
    let close = distance(&nearest) <= 1 + nearest.len() / 5 && word.len() > 1;
    close.then(|| format!("did you mean {nearest}?"))
}

pub(super) fn range_words(range: &RangeInclusive<u64>, unit: &str) -> String {
    let words = format!("{} to {} {unit}", range.start(), range.end());
    words.trim_end().to_owned()
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn one_of(words: &[impl Display]) -> String {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}
