//! What becomes of gaps.

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn ranges(list: &[(u64, u64)]) -> Vec<(Seq, Seq)> {
    list.iter().map(|(first, last)| (Seq(*first), Seq(*last))).collect()
}

fn brief(gaps: &[Gap]) -> Vec<(u64, u64, &'static str, u32)> {
    gaps.iter().map(|gap| (gap.first.0, gap.last.0, gap.state.word(), gap.asks)).collect()
}

#[test]
fn what_shrinks_is_not_asked_for() {
    let mut gaps = update(&[], &ranges(&[(1, 100), (200, 300)]), at(0));
    for second in 1..30 {
        // The second one stays as it is, and the end grows.
        gaps = update(&gaps, &ranges(&[(second, 100), (200, 300), (900, 900 + second)]), at(second as i64));
        let expected = if second < 10 { ranges(&[]) } else { ranges(&[(200, 300)]) };
        assert_eq!(due(&gaps, PATIENCE, at(second as i64)), expected, "after {second} s");
    }
    assert_eq!(gaps.len(), 3, "{gaps:?}");
}

#[test]
fn it_is_asked_for_more_and_more_seldom() {
    let missing = ranges(&[(5, 9)]);
    let mut gaps = update(&[], &missing, at(0));
    let mut asked = Vec::new();
    for second in 0..30_000 {
        gaps = update(&gaps, &missing, at(second));
        let due = due(&gaps, PATIENCE, at(second));
        if !due.is_empty() {
            ask(&mut gaps, &due, None, at(second));
            asked.push(second);
        }
    }
    let waits: Vec<i64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(asked[0], 10);
    assert_eq!(waits[..9], [20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600]);
    assert!(waits[9..].iter().all(|wait| *wait == 3_600), "{waits:?}");
    assert_eq!(brief(&gaps), [(5, 9, "asked", asked.len() as u32)]);
}

#[test]
fn what_is_lost_is_not_asked_for_and_what_arrives_is_no_gap() {
    let mut gaps = update(&[], &ranges(&[(1, 20), (31, 40)]), at(0));
    ask(&mut gaps, &ranges(&[(1, 20)]), None, at(10));
    lose(&mut gaps, (Seq(1), Seq(12)));
    assert_eq!(brief(&gaps), [(1, 12, "lost", 1), (13, 20, "asked", 1), (31, 40, "expected", 0)]);
    let why = "the gateway does not have it any more; the first that it still has is 13";
    assert_eq!(gaps[0].why.as_deref(), Some(why));
    let gaps = update(&gaps, &ranges(&[(1, 12), (15, 20), (33, 34)]), at(11));
    assert_eq!(brief(&gaps), [(1, 12, "lost", 1), (15, 20, "asked", 1), (33, 34, "expected", 0)]);
    assert_eq!(due(&gaps, PATIENCE, at(1_000_000)), ranges(&[(15, 20), (33, 34)]));
    // It has come after all.
    assert_eq!(brief(&update(&gaps, &ranges(&[(5, 6)]), at(12))), [(5, 6, "lost", 1)]);
    assert_eq!(update(&gaps, &[], at(12)), []);
}

#[test]
fn a_refusal_is_kept_until_the_next_answer() {
    let mut gaps = update(&[], &ranges(&[(1, 2)]), at(0));
    ask(&mut gaps, &ranges(&[(1, 2)]), Some("another epoch"), at(10));
    assert_eq!((gaps[0].why.as_deref(), gaps[0].asks), (Some("another epoch"), 1));
    ask(&mut gaps, &ranges(&[(1, 2)]), None, at(40));
    assert_eq!((gaps[0].why.as_deref(), gaps[0].asks), (None, 2));
}

#[test]
fn a_request_and_the_list_are_bounded() {
    let missing: Vec<(Seq, Seq)> = (1..5_000).map(|n| (Seq(10 * n), Seq(10 * n))).collect();
    let gaps = update(&[], &missing, at(0));
    assert_eq!(gaps.len(), GAPS_MAX);
    assert_eq!(due(&gaps, PATIENCE, at(100)), missing[..RANGES_MAX]);
}
