//! Devices that an operator retires, forgets and renames.

use super::*;
use crate::observe::Declined;

impl Scene {
    fn number(&self, name: &str) -> DeviceId {
        self.observer.device_named(name).unwrap()
    }

    fn administer(&mut self, change: impl FnOnce(&mut Observer, Time, &mut RecordBatch)) -> Vec<Fact> {
        let (now, mut batch) = (self.now, self.batch());
        change(&mut self.observer, now, &mut batch);
        self.commit(&batch)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<Vec<Fact>, Declined> {
        let id = self.observer.device_named(from)?;
        self.observer.may_rename(id, to)?;
        Ok(self.administer(|observer, now, batch| observer.rename_now(id, to, now, batch)))
    }
}

fn words(declined: Declined) -> String {
    match declined {
        Declined::NoSuchDevice(words)
        | Declined::Invalid(words)
        | Declined::Conflict(words)
        | Declined::NotYet(words) => words,
    }
}

#[test]
fn a_renamed_device_keeps_number_and_history_and_its_name_at_the_source() {
    let mut scene = Scene::new(config(1 << 20));
    scene.take("d/lamp", r#"{"n":1}"#);
    scene.take("d/other", r#"{"n":1}"#);
    let renamed = scene.rename("lamp", "kitchen").unwrap();
    assert_eq!(
        renamed,
        [Fact::DeviceRenamed { device: DeviceId(0), name: "kitchen".into(), called: "lamp".into() }]
    );
    scene.check();
    for round in ["running", "restarted"] {
        // The topic still has the name at the source.
        let facts = scene.take("d/lamp", &format!(r#"{{"n":"{round}"}}"#));
        assert!(matches!(&facts[..], [Fact::StateChanged { device: DeviceId(0), .. }]), "{round}: {facts:?}");
        assert_eq!((scene.number("kitchen"), scene.number("lamp")), (DeviceId(0), DeviceId(0)), "{round}");
        assert_eq!(scene.view.devices.find_ever("lamp").unwrap().0, DeviceId(0), "{round}");
        scene.restart();
        scene.check();
    }
    for (to, part) in [
        ("kitchen", "has this id already"),
        ("other", "another device has the id `other`"),
        ("", "without control characters"),
        ("a\nb", "without control characters"),
    ] {
        let words = words(scene.rename("kitchen", to).unwrap_err());
        assert!(words.contains(part), "{to:?}: {words}");
    }
    let taken = words(scene.rename("other", "lamp").unwrap_err());
    assert!(taken.contains("is a former id of device `kitchen`"), "{taken}");
    assert!(words(scene.rename("none", "x").unwrap_err()).contains("there is no device `none`"));
    // Back again is possible: the former id is its own.
    scene.rename("kitchen", "lamp").unwrap();
    assert_eq!(scene.number("kitchen"), DeviceId(0));
    scene.check();
}

#[test]
fn a_new_device_does_not_get_the_id_that_another_was_given() {
    let mut scene = Scene::new(config(1 << 20));
    scene.take("d/lamp", r#"{"n":1}"#);
    scene.rename("lamp", "kitchen").unwrap();
    scene.take("d/kitchen", r#"{"n":1}"#);
    assert_eq!((scene.number("kitchen"), scene.number("kitchen@s")), (DeviceId(0), DeviceId(1)));
    scene.check();
}

#[test]
fn a_retired_device_comes_back_when_it_is_heard() {
    let mut scene = Scene::new(config(1 << 20));
    scene.take("d/lamp", r#"{"n":1,"slow":1}"#);
    // Held back, because its interval has not ended.
    assert_eq!(scene.take("d/lamp", r#"{"n":1,"slow":2}"#), []);
    let id = scene.number("lamp");
    scene.observer.may_retire(id).unwrap();
    let facts = scene.administer(|observer, now, batch| observer.retire_now(id, now, batch));
    assert!(
        matches!(&facts[..], [Fact::StateChanged { .. }, Fact::DeviceRetired { device: DeviceId(0) }]),
        "{facts:?}"
    );
    assert!(words(scene.observer.may_retire(id).unwrap_err()).contains("is retired already"));
    scene.check();
    scene.restart();
    assert!(scene.observer.may_retire(id).is_err());
    let facts = scene.take("d/lamp", r#"{"n":3,"slow":2}"#);
    assert!(
        matches!(&facts[..], [Fact::DeviceDiscovered { device: DeviceId(0), .. }, Fact::StateChanged { .. }]),
        "{facts:?}"
    );
    assert!(scene.observer.may_retire(id).is_ok());
    scene.check();
}

#[test]
fn a_forgotten_device_leaves_nothing_behind_and_is_new_when_it_comes_back() {
    let mut scene = Scene::new(config(1 << 20));
    scene.take("d/lamp", r#"{"n":1,"slow":1}"#);
    scene.take("d/lamp", r#"{"n":1,"slow":2}"#);
    scene.take("c/child", r#"{"n":1}"#);
    let (lamp, bridge) = (scene.number("lamp"), scene.number("bridge"));
    let declined = words(scene.observer.may_forget(bridge, Seq(1)).unwrap_err());
    assert!(declined.contains("1 devices are behind device `bridge`"), "{declined}");

    scene.acked = Some(Seq(2));
    scene.take("d/x", r#"{"n":1}"#);
    let changed = scene.view.devices.get(lamp).unwrap().changed.0;
    let declined = words(scene.observer.may_forget(lamp, changed).unwrap_err());
    assert!(declined.contains("has the records up to sequence 2 only"), "{declined}");
    scene.acked = None;
    scene.take("d/x", r#"{"n":2}"#);
    scene.observer.may_forget(lamp, changed).unwrap();
    let facts = scene.administer(|observer, now, batch| observer.forget_now(lamp, now, batch));
    assert_eq!(facts, [Fact::DeviceForgotten { device: lamp }]);
    scene.check();
    // What was held back for it is gone with it.
    scene.now.0 += 60_000_000;
    let facts = scene.administer(Observer::tick);
    assert_eq!(facts, []);
    let facts = scene.take("d/lamp", r#"{"n":1}"#);
    let Fact::DeviceDiscovered { device, .. } = &facts[0] else { panic!("{facts:?}") };
    assert_ne!(*device, lamp);
    scene.restart();
    scene.check();
}
