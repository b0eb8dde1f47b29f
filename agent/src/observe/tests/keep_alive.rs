//! Devices that must be asked to keep sending.

use super::*;

const SUPPRESS: &str = r#"{"keepalive-options":["suppress-republish"]}"#;

fn scene() -> Scene {
    let text = "[[source]]\nname = \"s\"\naddress = \"mqtt://x\"\n[[source.subscription]]\npreset = \"victron-venus\"\n";
    Scene::new(Config::from_toml(text, "test.toml").unwrap())
}

impl Scene {
    /// Publications after this many seconds.
    fn published_after(&mut self, seconds: i64) -> Vec<(String, String)> {
        self.now.0 += seconds * 1_000_000;
        let mut batch = self.batch();
        self.observer.tick(self.now, &mut batch);
        let outbox = self.observer.sources[0].outcomes.outbox.clone();
        let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
        std::iter::from_fn(|| outbox.pop()).map(|p| (p.topic, text(&p.payload))).collect()
    }

    fn connected(&mut self, number: u64) {
        self.observer.sources[0].outcomes.outbox.open(number, self.now);
    }
}

fn asked(payload: &str) -> Vec<(String, String)> {
    vec![("R/e0ff50a097c0/keepalive".to_owned(), payload.to_owned())]
}

#[test]
fn a_device_is_asked_as_soon_as_it_is_heard_of_and_then_every_interval() {
    let mut scene = scene();
    scene.connected(1);
    assert_eq!(scene.published_after(60), []);
    scene.take("N/e0ff50a097c0/system/0/Serial", r#"{"value":"e0ff50a097c0"}"#);
    assert_eq!(scene.published_after(1), asked(""));
    assert_eq!(scene.published_after(29), []);
    assert_eq!(scene.published_after(1), asked(SUPPRESS));
    // A second topic of the same device adds nothing.
    scene.take("N/e0ff50a097c0/battery/0/Soc", r#"{"value":81}"#);
    assert_eq!(scene.published_after(1), []);
}

#[test]
fn each_connection_begins_with_the_first_payload() {
    let mut scene = scene();
    scene.take("N/e0ff50a097c0/system/0/Serial", r#"{"value":"e0ff50a097c0"}"#);
    assert_eq!(scene.published_after(60), [], "there is no connection");
    scene.connected(1);
    assert_eq!(scene.published_after(1), asked(""));
    scene.observer.sources[0].outcomes.outbox.close();
    assert_eq!(scene.published_after(60), []);
    scene.connected(2);
    assert_eq!(scene.published_after(1), asked(""));
    assert_eq!(scene.published_after(30), asked(SUPPRESS));
}

#[test]
fn a_clock_that_was_set_back_delays_nothing() {
    let mut scene = scene();
    scene.connected(1);
    scene.take("N/e0ff50a097c0/system/0/Serial", r#"{"value":"e0ff50a097c0"}"#);
    assert_eq!(scene.published_after(1), asked(""));
    assert_eq!(scene.published_after(-86_400), asked(SUPPRESS));
}
