use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{AttrId, Fact, Time};

use super::*;
use crate::log::{Commit, Log, LogOptions};

/// A log whose record `n` names an attribute by `names[n - 1]`, and cursors of sinks.
fn log(names: &[&str], cursors: &[(&str, u64)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
    let mut log = Log::open(dir.path(), options, Epoch(7)).unwrap();
    let mut body = RecordBuffer::after(Time(0));
    for (n, name) in names.iter().enumerate() {
        let wall = Time::from_secs(n as i64);
        let fact = Fact::AttributeNamed { attribute: AttrId(n as u32), name: (*name).to_owned() };
        body.push_fact(Envelope { wall, device_time: None, cause: None }, &fact);
    }
    let stored: Vec<(String, Vec<u8>)> = cursors
        .iter()
        .map(|(name, seq)| ((*name).to_owned(), AckedRanges::upto(Seq(*seq)).encode()))
        .collect();
    log.commit(&Commit { cursors: &stored, ..Commit::of(&body) }).unwrap();
    log.close().unwrap();
    dir
}

fn said(report: &Report) -> (u8, String) {
    let mut out = Vec::new();
    let code = print(report, &mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

fn anchor_at(dir: &tempfile::TempDir, seq: u64) -> Anchor {
    let walked = verify_against(dir.path(), &[Anchor { seq: Seq(seq), link: ChainHash::default() }]).unwrap();
    let Agreement::Differs(link) = walked.anchors[0].1 else { panic!("{walked:?}") };
    Anchor { seq: Seq(seq), link }
}

/// An attacker who rewrites the log recomputes checksums and chain; only an anchor kept elsewhere reveals it.
#[test]
fn a_log_that_was_rewritten_with_its_chain_passes_alone_and_fails_its_anchor() {
    let honest = log(&["a", "b", "c", "d"], &[("cloud", 3)]);
    let forged = log(&["a", "B", "c", "d"], &[("cloud", 3)]);
    let anchor: Anchor = anchor_at(&honest, 3).to_string().parse().unwrap();
    let alone = verify(forged.path()).unwrap();
    assert_eq!(said(&alone).0, 0, "{alone:?}");

    let (code, words) = said(&verify_against(honest.path(), &[anchor]).unwrap());
    assert_eq!(code, 0, "{words}");
    assert!(words.contains("anchor  3 agrees"), "{words}");
    assert!(
        words.contains(
            "proof   up to 3, by the anchor given; 4 to 4 are consistent, but nothing outside the log \
             confirms them"
        ),
        "{words}"
    );

    let (code, words) = said(&verify_against(forged.path(), &[anchor]).unwrap());
    assert_eq!(code, 1, "{words}");
    let own = anchor_at(&forged, 3).link;
    assert!(words.contains(&format!("anchor  3 DIFFERS: the chain here is {own}")), "{words}");
    assert!(words.contains("proof   none: no anchor agrees; 1 to 4 are consistent, but nothing"), "{words}");
    assert!(words.contains("result  NOT THE SAME LOG"), "{words}");

    // A change after an anchor does not affect it.
    let before = anchor_at(&honest, 1);
    assert_eq!(verify_against(forged.path(), &[before]).unwrap().anchors[0].1, Agreement::Agrees);
}

#[test]
fn each_sinks_anchor_is_named_and_what_is_after_all_of_them() {
    let dir = log(&["a", "b", "c", "d", "e"], &[("cloud", 3), ("idle", 0), ("lab", 1)]);
    let (code, words) = said(&verify(dir.path()).unwrap());
    assert_eq!(code, 0, "{words}");
    let anchor = anchor_at(&dir, 3);
    assert!(words.contains(&format!("sink    cloud has acknowledged up to 3; anchor {anchor}\n")), "{words}");
    assert!(words.contains("sink    lab has acknowledged up to 1; anchor 1:"), "{words}");
    assert!(words.contains("according to the log itself, cloud has the chain up to 3"), "{words}");
    assert!(words.contains("sink    idle has acknowledged nothing"), "{words}");
    assert!(words.contains("4 to 5 are consistent, but nothing outside the log confirms them"), "{words}");
    let (_, words) = said(&verify(log(&["a"], &[]).path()).unwrap());
    assert!(
        words.contains(
            "proof   none: no sink has the chain of this log; 1 to 1 are consistent, but nothing outside the log \
             confirms them"
        ),
        "{words}"
    );
}

#[test]
fn a_log_that_ends_before_its_anchor_or_cursor_is_not_good() {
    let whole = log(&["a", "b", "c"], &[]);
    let cut = log(&["a", "b"], &[]);
    let (code, words) = said(&verify_against(cut.path(), &[anchor_at(&whole, 3)]).unwrap());
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("anchor  3 IS MISSING: the intact part ends at 2"), "{words}");

    let behind = log(&["a", "b"], &[("cloud", 9)]);
    let (code, words) = said(&verify(behind.path()).unwrap());
    assert_eq!(code, EX_DATAERR, "{words}");
    assert!(words.contains("\"cloud\" has acknowledged up to 9, and the log ends at 2"), "{words}");
}

#[test]
fn what_is_no_anchor_is_refused_in_words() {
    for text in ["", "5", "x:00", "5:xyz", "5:00"] {
        let error = text.parse::<Anchor>().unwrap_err();
        assert!(error.contains("<sequence>:<64 hexadecimal digits>"), "{text}: {error}");
    }
}

#[test]
fn a_log_that_begins_late_is_damaged_unless_a_record_says_why() {
    let trimmed = |last| Fact::Trimmed { first: Seq(1), last };
    let gap = |first| Fact::Gap { first, last: Seq(2_999), lost_by: vec!["cloud".into()] };
    // The last deleted record is between 1,000 and 3,000.
    let check = |facts: &[Fact], explained: bool| {
        let names: Vec<String> = (0..4_000).map(|n| format!("attribute {n} {}", n * n)).collect();
        let dir = log(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
        let mut open = Log::open(dir.path(), options, Epoch(0)).unwrap();
        let mut records = RecordBuffer::after(open.last_time());
        facts.iter().for_each(|fact| records.push_fact(Envelope::default(), fact));
        let trim = Commit { trim_before: Some(Seq(3_000)), ..Commit::of(&records) };
        let (_, last) = open.commit(&trim).unwrap().trimmed.unwrap();
        assert!(last > Seq(1_000) && last < Seq(3_000), "{last}");
        open.close().unwrap();
        let (code, words) = said(&verify(dir.path()).unwrap());
        assert_eq!(code, if explained { 0 } else { EX_DATAERR }, "{facts:?}: {words}");
        let fault = format!("the log begins at sequence {}, and no record in it says", last.next());
        assert_eq!(words.contains(&fault), !explained, "{facts:?}: {words}");
    };
    check(&[], false);
    check(&[trimmed(Seq(1_000))], false);
    check(&[trimmed(Seq(2_999))], true);
    check(&[trimmed(Seq(1_000)), gap(Seq(1_001))], true);
    check(&[gap(Seq(3_000))], false);
}

#[test]
fn an_anchor_in_what_was_trimmed_cannot_be_compared_but_the_one_at_its_end_can() {
    let names: Vec<String> = (0..4_000).map(|n| format!("attribute {n} {}", n * n)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let dir = log(&names, &[]);
    let old = anchor_at(&dir, 5);
    let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
    let mut open = Log::open(dir.path(), options, Epoch(0)).unwrap();
    let mut record = RecordBuffer::after(open.last_time());
    record.push_fact(Envelope::default(), &Fact::Trimmed { first: Seq(1), last: Seq(2_999) });
    let trim = Commit { trim_before: Some(Seq(3_000)), ..Commit::of(&record) };
    let (_, last) = open.commit(&trim).unwrap().trimmed.unwrap();
    let first = open.reader().scan(last.next(), |chunk| ControlFlow::Break(chunk.header.place.link)).unwrap();
    open.close().unwrap();
    let edge = Anchor { seq: last, link: first.unwrap() };
    let report = verify_against(dir.path(), &[edge, old]).unwrap();
    assert_eq!(report.anchors, [(old, Agreement::Trimmed), (edge, Agreement::Agrees)]);
    let (code, words) = said(&report);
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("anchor  5 cannot be compared") && words.contains("give a newer one"), "{words}");
    assert_eq!(said(&verify_against(dir.path(), &[edge]).unwrap()).0, 0);
}

/// Leaves a record that only the journal has, as after a crash.
fn with_journal() -> tempfile::TempDir {
    let dir = log(&["a", "b"], &[]);
    let options = LogOptions { cache_bytes: 1 << 20, quick_repair: false, quarantine_records_max: 10 };
    let mut log = Log::open(dir.path(), options, Epoch(0)).unwrap();
    let used = log.use_journal(dir.path(), crate::log::JournalBounds { move_bytes: 1 << 20 }).unwrap();
    used.expect("this directory suits a journal");
    for n in 2..4 {
        let mut body = RecordBuffer::after(log.last_time());
        let fact = Fact::AttributeNamed { attribute: AttrId(n), name: format!("{n}") };
        body.push_fact(Envelope { wall: log.last_time(), device_time: None, cause: None }, &fact);
        log.append(&body, &[]).unwrap();
    }
    dir
}

#[test]
fn what_only_the_journal_has_is_checked_and_a_damaged_journal_is_a_finding() {
    let dir = with_journal();
    let path = dir.path().join(crate::log::JOURNAL_FILE_NAME);
    let before = std::fs::read(&path).unwrap();
    let report = verify(dir.path()).unwrap();
    let (code, words) = said(&report);
    assert_eq!((code, report.range, report.in_journal), (0, Some((Seq(1), Seq(4))), 2), "{words}");
    assert!(words.contains("journal 2 commits that log.redb does not have yet"), "{words}");
    assert!(std::fs::read(&path).unwrap() == before, "verify has changed the journal");

    std::fs::remove_file(&path).unwrap();
    let report = verify(dir.path()).unwrap();
    let (code, words) = said(&report);
    assert_eq!((code, report.intact), (EX_DATAERR, Seq(2)), "{words}");
    assert!(
        words.contains("the journal (the file \"journal\" beside log.redb) is damaged: the file is missing"),
        "{words}"
    );
}
