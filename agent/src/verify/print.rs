//! Prints the report.

use std::io::{self, Write};

use fieldlog_projections::{Anchor, Seq};
use serde_json::{Value as Json, json};

use super::{Agreement, EX_DATAERR, Report, RollupsReport};
use crate::words::number;

/// The exit code of a report: 0 if everything is intact and every anchor agrees, [`EX_DATAERR`] if something is damaged,
/// else 1: an anchor disagrees or cannot be compared.
pub fn exit_code(report: &Report) -> u8 {
    match report.fault {
        Some(_) => EX_DATAERR,
        None => u8::from(!report.is_good()),
    }
}

/// A report for programs.
pub fn as_json(report: &Report) -> Json {
    let (first, last) = report.range.unzip();
    let archive = report.rollups.range.map(|(first, last)| {
        json!({"first": first, "last": last, "gaps": report.rollups.gaps, "rows": report.rollups.rows})
    });
    let sink = |(name, acknowledged, link): &(String, Seq, Option<_>)| {
        let anchor = link.map(|link| Anchor { seq: *acknowledged, link });
        json!({"name": name, "acknowledged": acknowledged, "anchor": anchor})
    };
    let anchor = |(anchor, agreement): &(Anchor, Agreement)| {
        let agreement = match agreement {
            Agreement::Agrees => "agrees",
            Agreement::Differs(_) => "differs",
            Agreement::Ends => "missing",
            Agreement::Trimmed => "trimmed",
        };
        json!({"anchor": anchor, "agreement": agreement})
    };
    json!({
        "good": report.is_good(),
        "fault": report.fault,
        "epoch": report.epoch.to_string(),
        "first": first,
        "last": last,
        "intact": report.intact,
        "chain": report.link,
        "chunks": report.chunks,
        "journal_commits": report.in_journal,
        "archive": archive,
        "sinks": report.sinks.iter().map(sink).collect::<Vec<_>>(),
        "anchors": report.anchors.iter().map(anchor).collect::<Vec<_>>(),
    })
}

/// Prints a report; returns its [`exit_code`].
///
/// # Errors
/// Of the output.
pub fn print(report: &Report, out: &mut impl Write) -> io::Result<u8> {
    writeln!(out, "epoch   {}", report.epoch)?;
    match report.range {
        None => writeln!(out, "records none")?,
        Some((first, last)) => {
            writeln!(out, "records {first} to {last} in {}", number(report.chunks, "chunk"))?;
            writeln!(out, "intact  up to {}", report.intact)?;
            writeln!(out, "chain   {} after sequence {}", report.link, report.intact)?;
        }
    }
    if report.in_journal > 0 {
        writeln!(out, "journal {} that log.redb does not have yet", number(report.in_journal, "commit"))?;
    }
    if let RollupsReport { rows, range: Some((first, last)), gaps } = report.rollups {
        let without =
            if gaps == 0 { String::new() } else { format!(", without {} between", stretches(gaps)) };
        writeln!(out, "archive aggregates of {first} to {last}{without} in {}", number(rows, "row"))?;
    }
    for (name, seq, link) in &report.sinks {
        if *seq == Seq(0) {
            writeln!(out, "sink    {name} has acknowledged nothing from the beginning on")?;
            continue;
        }
        let at = link.map(|link| format!("; anchor {}", Anchor { seq: *seq, link })).unwrap_or_default();
        writeln!(out, "sink    {name} has acknowledged up to {seq}{at}")?;
    }
    for (anchor, agreement) in &report.anchors {
        writeln!(out, "anchor  {}", in_words(report, anchor, *agreement))?;
    }
    if report.range.is_some() {
        writeln!(out, "proof   {}", reach(report))?;
    }
    verdict(report, out)?;
    Ok(exit_code(report))
}

fn stretches(gaps: u64) -> String {
    if gaps == 1 { "1 stretch".to_owned() } else { format!("{gaps} stretches") }
}

fn in_words(report: &Report, anchor: &Anchor, agreement: Agreement) -> String {
    let seq = anchor.seq;
    match agreement {
        Agreement::Agrees => format!("{seq} agrees: these are the records that led to it"),
        Agreement::Differs(link) => format!("{seq} DIFFERS: the chain here is {link}"),
        Agreement::Ends => format!("{seq} IS MISSING: the intact part ends at {}", report.intact),
        Agreement::Trimmed => {
            format!("{seq} cannot be compared: the log was trimmed beyond it; give a newer one")
        }
    }
}

/// How far the log can be proved.
fn reach(report: &Report) -> String {
    let agreed = report.anchors.iter().rev().find(|(_, agreement)| *agreement == Agreement::Agrees);
    let sinks = report.sinks.iter().filter(|(_, seq, link)| link.is_some() && *seq > Seq(0));
    let (words, reached) = match (agreed, sinks.max_by_key(|(_, seq, _)| *seq)) {
        (Some((anchor, _)), _) => (format!("up to {}, by the anchor given", anchor.seq), anchor.seq),
        (None, _) if !report.anchors.is_empty() => ("none: no anchor agrees".to_owned(), Seq(0)),
        // The cursors are in the log itself: anyone who rewrites the log can rewrite them.
        (None, Some((name, seq, _))) => (
            format!(
                "none without --anchor; according to the log itself, {name} has the chain up to {seq}: compare it with \
                 its receiver's report"
            ),
            *seq,
        ),
        (None, None) => ("none: no sink has the chain of this log".to_owned(), Seq(0)),
    };
    let alone = report.range.map_or(reached, |(first, _)| first).max(reached.next());
    if alone <= report.intact {
        format!(
            "{words}; {alone} to {} are consistent, but nothing outside the log confirms them",
            report.intact
        )
    } else {
        words
    }
}

fn verdict(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let against = |wanted: fn(&Agreement) -> bool| report.anchors.iter().any(|(_, a)| wanted(a));
    if let Some(fault) = &report.fault {
        writeln!(out, "result  DAMAGED: {fault}")?;
        return writeln!(
            out,
            "        Restore it from a backup (fieldlog restore), or save what is intact in a new epoch (fieldlog repair)."
        );
    }
    if against(|a| matches!(a, Agreement::Differs(_) | Agreement::Ends)) {
        writeln!(
            out,
            "result  NOT THE SAME LOG: intact in itself, but its chain does not lead to the anchor"
        )?;
        return writeln!(
            out,
            "        It was rewritten, restored from an older backup, or the anchor is of another gateway. The \
             receiver's events are the evidence."
        );
    }
    if against(|a| *a == Agreement::Trimmed) {
        return writeln!(out, "result  intact, but not compared with every anchor");
    }
    writeln!(out, "result  intact: every checksum, every record and the chain are as they were written")
}
