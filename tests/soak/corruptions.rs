//! Changes pages of a stopped log. `fieldlog run` must find the same content or refuse with 65, and `fieldlog verify`
//! must detect what a reader detects.
//!
//! After a kill, a damaged last commit looks like one torn by a power cut, and the log continues from the previous
//! commit (FORMAT.md). So here a killed log ends with a commit of one record, and may lose only that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fieldlog::log::FILE_NAME;
use fieldlog_projections::{Fact, Seq, Time};
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::process::call;
use fieldlog_tests::publisher::Post;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::until;
use serde_json::Value as Json;

use crate::account::Account;
use crate::quiet::attempt;
use crate::site::{STATE, Site, tail};

const PAGE: usize = 4_096;
const CORRUPTIONS: usize = 10;
/// Exit codes of `verify`: intact, damaged, cannot be opened.
const VERDICTS: [i32; 4] = [0, 1, 65, 74];
const REFUSED: i32 = 65;

/// The content of the undamaged log.
struct Sound {
    records: Vec<(Seq, Time, Fact)>,
    devices: BTreeMap<String, Json>,
    /// Number of records in the last commit, if a reader may take it for torn.
    may_lose: usize,
}

pub async fn round(mut rng: Rng, account: &Arc<Account>) {
    let mut site = Site::new(account).await;
    let unit = site.run(&[STATE], "").await;
    let posts = |rng: &mut Rng| (0..rng.between(1, 800)).map(|n| post(n, rng)).collect::<Vec<_>>();
    for _ in 0..rng.between(1, 4) {
        site.send(posts(&mut rng)).await;
    }
    // For the first time, so that the next one is a single record.
    site.check_real(0).await;
    site.check_real(1).await;
    let mut devices = site.devices();
    // A log that was killed is repaired when it is opened.
    let killed = rng.chance(30);
    let (how, may_lose) = if killed { ("killed", 1) } else { ("stopped", 0) };
    if killed {
        devices.remove("real");
    }
    if killed {
        unit.kill()
    } else {
        unit.stop().await
    }
    let base = site.dir.path().join("base");
    crate::clones::copy(&site.data_dir(), &base);
    let records = Logbook::read(&site.data_dir()).records;
    let sound = Sound { records, devices, may_lose };
    // From here on nothing may change.
    site.port = 1;
    for _ in 0..CORRUPTIONS {
        let what = format!("{how}: {}", corrupt(&base, &site, &mut rng));
        sound.check(&site, account, &what).await;
        account.checked(1);
    }
}

fn post(number: usize, rng: &mut Rng) -> Post {
    let text: String = (0..rng.below(200)).map(|_| char::from(b'0' + rng.below(75) as u8)).collect();
    let document = serde_json::json!({ "number": number, "text": text });
    Post::new(format!("t/d{}", rng.below(50)), document.to_string())
}

/// Puts a damaged copy in place of the data directory; returns a description of the damage.
fn corrupt(base: &Path, site: &Site, rng: &mut Rng) -> String {
    let data_dir = site.data_dir();
    std::fs::remove_dir_all(&data_dir).unwrap();
    crate::clones::copy(base, &data_dir);
    let path = data_dir.join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    let live: Vec<usize> = (0..bytes.len() / PAGE)
        .filter(|page| bytes[page * PAGE..][..PAGE].iter().any(|byte| *byte != 0))
        .collect();
    let mut done = String::new();
    for _ in 0..rng.between(1, 4) {
        let (page, other) = (*rng.pick(&live), *rng.pick(&live));
        let (at, len) = (rng.below(PAGE), rng.between(1, 400));
        let range = page * PAGE + at..(page * PAGE + at + len).min(page * PAGE + PAGE);
        done += &match rng.below(5) {
            0 => {
                bytes[page * PAGE + at] ^= 1 << rng.below(8);
                format!("a bit of byte {at} of page {page}; ")
            }
            1 => {
                let noise = rng.bytes(range.len());
                bytes[range.clone()].copy_from_slice(&noise);
                format!("noise in {range:?} on page {page}; ")
            }
            2 => {
                bytes[range.clone()].fill(0);
                format!("zeros in {range:?} on page {page}; ")
            }
            3 => {
                bytes[page * PAGE..][..PAGE].fill(0);
                format!("page {page} zeroed; ")
            }
            _ => {
                bytes.copy_within(other * PAGE..other * PAGE + PAGE, page * PAGE);
                format!("page {other} in place of page {page}; ")
            }
        };
    }
    std::fs::write(&path, &bytes).unwrap();
    done
}

impl Sound {
    async fn check(&self, site: &Site, account: &Arc<Account>, what: &str) {
        let for_verify = site.dir.path().join("for_verify");
        let _ = std::fs::remove_dir_all(&for_verify);
        crate::clones::copy(&site.data_dir(), &for_verify);
        let (verdict, printed, words) = call(&["verify", "--data-dir", for_verify.to_str().unwrap()]);
        if !VERDICTS.contains(&verdict) {
            account.died(&format!("{what}verify ends with {verdict}: {} {}", tail(&printed), tail(&words)));
        }

        let mut unit = site.start(&[STATE], "");
        until("a start or a refusal", || {
            !unit.is_running() || site.get("/readyz").is_some_and(|(s, _)| s == 200)
        })
        .await;
        if !unit.is_running() {
            let ended = unit.ended().await;
            if ended.code != REFUSED {
                account.died(&format!("{what}the start ends with {}: {}", ended.code, tail(&ended.words)));
            }
            return;
        }
        let found = site.devices();
        let same = self.devices.iter().all(|(device, attributes)| found.get(device) == Some(attributes));
        account.wrong(usize::from(!same), &format!("{what}other devices, and verify says {verdict}"));
        unit.stop().await;
        match attempt(|| Logbook::read(&site.data_dir()).records) {
            None => account
                .wrong(usize::from(verdict == 0), &format!("{what}unreadable, and verify says {verdict}")),
            Some(found) => {
                let same =
                    found.iter().zip(&self.records).take_while(|(found, record)| found == record).count();
                let differs = same + self.may_lose < self.records.len();
                let what =
                    format!("{what}{same} of {} records, and verify says {verdict}", self.records.len());
                account.wrong(usize::from(differs), &what);
            }
        }
    }
}
