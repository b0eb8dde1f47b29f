//! Hostile messages: the agent must keep running within the memory of its unit, and record a real device's values.

use std::sync::Arc;

use fieldlog_tests::publisher::Post;
use fieldlog_tests::rng::Rng;

use crate::account::Account;
use crate::site::{STATE, Site};

const RULES: [&str; 4] = [
    STATE,
    "topic = \"a/+device\"\ndecoder = \"json\"\nactions = [\"n*\"]",
    "topic = \"s/+device/+attribute\"\ndecoder = \"scalar\"",
    "topic = \"deep/#\"\ndecoder = \"json\"\ndevice = \"deep\"",
];

type Flood = fn(&mut Rng) -> Vec<Post>;

const FLOODS: [Flood; 11] = [
    random_json,
    junk,
    nested,
    huge_names,
    many_devices,
    many_attributes,
    many_topics,
    many_actions,
    fat_devices,
    retained_storm,
    retirements,
];

pub async fn round(mut rng: Rng, account: &Arc<Account>) {
    let site = Site::new(account).await;
    let mut unit = site.run(&RULES, "").await;
    site.check_real(0).await;
    for number in 1..=rng.between(3, 7) {
        let posts = rng.pick(&FLOODS)(&mut rng);
        account.checked(posts.len());
        // Messages in flight at a kill are redelivered, so messages cannot be counted.
        site.publisher.post(posts);
        if rng.chance(25) {
            tokio::time::sleep(std::time::Duration::from_millis(rng.below(500) as u64)).await;
            unit.kill();
            unit = site.run(&RULES, "").await;
        }
        site.publisher.idle().await;
        site.check_real(number).await;
        unit.look();
        let healthy = ["/livez", "/readyz", "/metrics", "/status", "/api/v1/devices", "/api/v1/quarantine"];
        let ill = healthy.iter().filter(|path| site.get(path).is_none_or(|(status, _)| status != 200));
        account.wrong(ill.count(), "an answer other than 200");
    }
    unit.stop().await;
    // From the snapshot.
    let unit = site.run(&RULES, "").await;
    site.check_real(1_000).await;
    unit.stop().await;
}

fn text(rng: &mut Rng, len: usize) -> String {
    const ALPHABET: &[char] = &[
        'a', 'Z', '0', '/', '.', '"', '\\', ' ', '\n', '\0', '\u{7f}', 'ß', '\u{202e}', '😀', '+', '#', '$',
    ];
    (0..len).map(|_| *rng.pick(ALPHABET)).collect()
}

fn json(rng: &mut Rng, depth: usize) -> serde_json::Value {
    match rng.below(if depth == 0 { 5 } else { 7 }) {
        0 => serde_json::Value::Null,
        1 => rng.chance(50).into(),
        2 => (rng.next_u64() as i64).into(),
        3 => f64::from_bits(rng.next_u64()).into(),
        4 => {
            let len = rng.below(30);
            text(rng, len).into()
        }
        5 => (0..rng.below(8)).map(|_| json(rng, depth - 1)).collect::<Vec<_>>().into(),
        _ => {
            let member = |rng: &mut Rng| {
                let len = rng.below(12);
                (text(rng, len), json(rng, depth - 1))
            };
            serde_json::Value::Object((0..rng.below(8)).map(|_| member(rng)).collect())
        }
    }
}

fn random_json(rng: &mut Rng) -> Vec<Post> {
    (0..2_000).map(|_| Post::new(format!("t/j{}", rng.below(50)), json(rng, 5).to_string())).collect()
}

fn junk(rng: &mut Rng) -> Vec<Post> {
    let junk = |rng: &mut Rng| {
        let mut bytes = json(rng, 3).to_string().into_bytes();
        match rng.below(3) {
            0 => {
                bytes = {
                    let len = rng.below(5_000);
                    rng.bytes(len)
                }
            }
            1 => bytes.truncate(rng.below(bytes.len() + 1)),
            _ => {
                let at = rng.below(bytes.len());
                bytes[at] = rng.next_u64() as u8;
            }
        }
        Post::new(format!("t/junk{}", rng.below(20)), bytes)
    };
    (0..2_000).map(|_| junk(rng)).collect()
}

fn nested(rng: &mut Rng) -> Vec<Post> {
    let nested = |rng: &mut Rng| {
        let depth = *rng.pick(&[10, 127, 128, 1_000, 100_000]);
        let (open, close) = *rng.pick(&[("[", "]"), ("{\"a\":", "}")]);
        let inside = if rng.chance(50) { "1" } else { "" };
        Post::new(format!("t/n{}", rng.below(5)), open.repeat(depth) + inside + &close.repeat(depth))
    };
    (0..60).map(|_| nested(rng)).collect()
}

fn huge_names(rng: &mut Rng) -> Vec<Post> {
    let named = |rng: &mut Rng| {
        let len = *rng.pick(&[255, 256, 257, 10_000, 60_000]);
        let name = "x".repeat(len - 5) + &format!("{:05}", rng.below(100_000));
        match rng.below(3) {
            0 => Post::new(format!("t/{name}"), "{\"x\":1}"),
            1 => Post::new(format!("s/d/{name}"), "1"),
            _ => Post::new("t/names", format!("{{\"{name}\":1}}")),
        }
    };
    (0..500).map(|_| named(rng)).collect()
}

fn many_devices(rng: &mut Rng) -> Vec<Post> {
    let run = rng.below(1_000);
    (0..6_000).map(|n| Post::new(format!("t/r{run}-{n}"), "{\"on\":true}")).collect()
}

fn many_attributes(rng: &mut Rng) -> Vec<Post> {
    let device = rng.below(20);
    (0..4_000)
        .map(|n| Post::new(format!("s/many{device}/a{n}-{}", rng.below(1_000)), n.to_string()))
        .collect()
}

fn many_topics(rng: &mut Rng) -> Vec<Post> {
    (0..4_000)
        .map(|_| Post::new(format!("deep/{}/{}", rng.next_u64(), rng.next_u64()), "{\"a\":1}"))
        .collect()
}

fn many_actions(rng: &mut Rng) -> Vec<Post> {
    let document = |rng: &mut Rng| {
        let names: Vec<String> = (0..250).map(|_| format!("\"n{}\":1", rng.next_u64())).collect();
        format!("{{{}}}", names.join(","))
    };
    (0..400).map(|n| Post::new(format!("a/d{n}"), document(rng))).collect()
}

/// Documents of a megabyte, the maximum for a device.
fn fat_devices(rng: &mut Rng) -> Vec<Post> {
    let run = rng.below(10);
    let fat = |device: usize| {
        let attributes: Vec<String> =
            (0..255).map(|n| format!("\"a{n}\":\"{}\"", "x".repeat(4_000 + device % 50))).collect();
        Post::new(format!("t/fat{run}-{device}"), format!("{{{}}}", attributes.join(",")))
    };
    (0..60).map(fat).collect()
}

fn retained_storm(rng: &mut Rng) -> Vec<Post> {
    (0..4_000)
        .map(|_| Post::retained(format!("t/kept{}", rng.below(3_000)), format!("{{\"n\":{}}}", rng.below(9))))
        .collect()
}

fn retirements(rng: &mut Rng) -> Vec<Post> {
    let run = rng.below(1_000);
    let both =
        |n| [Post::new(format!("t/gone{run}-{n}"), "{\"x\":1}"), Post::new(format!("t/gone{run}-{n}"), "")];
    (0..3_000).flat_map(both).collect()
}
