//! Mapping names to devices: namespaces, clashes, logs of versions without namespaces, and renames.

use super::story::Input::{Renamed, Retained, Says, SaysOn};
use super::story::given;
use super::*;

/// Two sources, and a rule of the first that declares a namespace: `n/…` is of `other`.
fn settings() -> Config {
    let mut settings = config(50_000_000);
    let declared = Rule { namespace: Some("other".into()), ..rule("n/+device", Decoder::Json) };
    settings.sources[0].rules.push(declared);
    let rules = vec![
        rule("d/+device", Decoder::Json),
        rule("b/+device", Decoder::Availability),
        Rule { parent: Some("bridge".into()), ..rule("c/+device", Decoder::Json) },
    ];
    settings.sources.push(SourceConfig { rules, ..SourceConfig::removed("z") });
    settings
}

fn discovered_by_version_1(name: &str, source: &str) -> Fact {
    let (device, name, source) = (DeviceId(0), name.into(), source.into());
    Fact::DeviceDiscovered { device, name, source, parent: None, identity: None }
}

#[test]
fn one_name_on_two_sources_is_two_devices() {
    given(settings(), &[])
        .when(0, Says("d/kitchen", r#"{"POWER":"ON"}"#))
        .then(&["discovered kitchen", "named POWER", "kitchen POWER=ON"])
        .when(1, SaysOn(1, "d/kitchen", r#"{"state":"OFF"}"#))
        .then(&["discovered kitchen@z (kitchen of z)", "named state", "kitchen@z state=OFF"])
        .when(2, SaysOn(1, "b/kitchen", "off"))
        .then(&["kitchen@z Offline by Topic"])
        .when(3, Says("b/kitchen", "on"))
        .then(&["kitchen Online by Topic"])
        .counted("clashes", 1)
        // Each keeps its identity.
        .restarted(settings())
        .when(4, SaysOn(1, "d/kitchen", r#"{"state":"ON"}"#))
        .then(&["kitchen@z state=ON"])
        .when(5, Says("d/kitchen", r#"{"POWER":"OFF"}"#))
        .then(&["kitchen POWER=OFF"]);
}

#[test]
fn a_declared_namespace_parts_and_joins() {
    let lamp = r#"{"x":1}"#;
    given(settings(), &[(0, Says("d/lamp", lamp))])
        .when(1, Says("n/lamp", lamp))
        .then(&["discovered lamp@other (lamp of other)", "lamp@other x=1"]);
    let mut joined = settings();
    joined.sources[1].rules.iter_mut().for_each(|rule| rule.namespace = Some("s".into()));
    given(joined, &[(0, Says("d/lamp", lamp))])
        .when(1, SaysOn(1, "d/lamp", r#"{"x":2}"#))
        .then(&["lamp x=2"])
        .counted("clashes", 0);
}

#[test]
fn a_name_that_looks_like_the_id_of_another_gets_an_id_of_its_own() {
    let lamp = r#"{"x":1}"#;
    let story = given(settings(), &[(0, Says("d/lamp@z", lamp)), (1, Says("d/lamp", lamp))])
        .when(2, SaysOn(1, "d/lamp", lamp))
        .then(&["discovered lamp@z@2 (lamp of z)", "lamp@z@2 x=1"])
        .when(3, SaysOn(1, "d/lamp@z", lamp))
        .then(&["discovered lamp@z@z (lamp@z of z)", "lamp@z@z x=1"])
        .restarted(settings())
        .when(4, Says("d/lamp@z", r#"{"x":2}"#))
        .then(&["lamp@z x=2"])
        .when(5, SaysOn(1, "d/lamp", r#"{"x":3}"#))
        .then(&["lamp@z@2 x=3"]);
    assert_eq!(story.device("lamp@z@2").1.called(), "lamp");
}

#[test]
fn a_device_of_an_older_log_goes_on_as_whoever_names_it_first_on_its_source() {
    given(settings(), &[])
        .recorded(&discovered_by_version_1("kitchen", "z"))
        // It never belonged to another source.
        .when(0, Says("d/kitchen", "{}"))
        .then(&["discovered kitchen@s (kitchen of s)"])
        .when(1, SaysOn(1, "d/kitchen", r#"{"x":1}"#))
        .then(&["discovered kitchen (kitchen of z)", "named x", "kitchen x=1"])
        .when(2, SaysOn(1, "d/kitchen", r#"{"x":2}"#))
        .then(&["kitchen x=2"]);
    // Two namespaces in one source: topics that were mapped to the same device are corrected.
    given(settings(), &[])
        .recorded(&discovered_by_version_1("lamp", "s"))
        .when(0, Retained("n/lamp", ""))
        .then(&["retired lamp"])
        .when(1, Says("d/lamp", "{}"))
        .then(&["discovered lamp"])
        .when(2, Says("n/lamp", "{}"))
        .then(&["discovered lamp@other (lamp of other)"]);
}

#[test]
fn an_empty_document_retires_the_device_of_its_own_namespace_only() {
    given(settings(), &[(0, Says("d/lamp", "{}")), (1, Says("n/lamp", "{}"))])
        .when(2, Retained("n/lamp", ""))
        .then(&["retired lamp@other"])
        .when(3, Says("d/lamp", r#"{"x":1}"#))
        .then(&["named x", "lamp x=1"])
        // It comes back under its id.
        .when(4, Says("n/lamp", r#"{"x":2}"#))
        .then(&["discovered lamp@other (lamp of other)", "lamp@other x=2"]);
}

#[test]
fn a_parent_is_of_the_namespace_of_its_child() {
    given(settings(), &[(0, Says("c/lamp", "{}"))])
        .when(1, SaysOn(1, "c/fan", "{}"))
        .then(&["discovered bridge@z (bridge of z)", "discovered fan (fan of z) behind bridge@z"]);
}

#[test]
fn a_forgotten_device_leaves_its_id() {
    let mut settings = settings();
    settings.limits.devices_max = 2;
    given(settings, &[(0, Says("d/lamp", "{}")), (1, SaysOn(1, "d/lamp", "{}"))])
        .when(2, Says("d/lamp", ""))
        .then(&["retired lamp"])
        .when(3, SaysOn(1, "d/fan", "{}"))
        .then(&["forgotten lamp", "discovered fan (fan of z)"])
        // An assigned id stays.
        .when(4, SaysOn(1, "d/lamp", r#"{"x":1}"#))
        .then(&["named x", "lamp@z x=1"])
        .when(5, SaysOn(1, "d/fan", ""))
        .then(&["retired fan"])
        .when(6, Says("n/lamp", "{}"))
        .then(&["forgotten fan", "discovered lamp (lamp of other)"]);
}

#[test]
fn another_namespace_after_a_reload_makes_another_device_and_the_old_one_stays() {
    let mut changed = settings();
    changed.sources[0].rules[0].namespace = Some("house".into());
    given(settings(), &[(0, Says("d/lamp", r#"{"x":1}"#))])
        .reloaded(changed)
        .when(1, Says("d/lamp", r#"{"x":1}"#))
        .then(&["discovered lamp@house (lamp of house)", "lamp@house x=1"])
        .reloaded(settings())
        .when(2, Says("d/lamp", r#"{"x":2}"#))
        .then(&["lamp x=2"]);
}

#[test]
fn a_renamed_device_goes_on_under_another_id() {
    let story = given(settings(), &[(0, Says("d/lamp", r#"{"x":1}"#))])
        .when(1, Renamed("lamp", "hall"))
        .then(&["renamed lamp hall (hall)"])
        .when(2, Says("d/hall", r#"{"x":2}"#))
        .then(&["hall x=2"])
        .when(3, Renamed("hall", "hall"))
        .then(&[])
        .restarted(settings())
        .when(4, Says("d/hall", r#"{"x":3}"#))
        .then(&["hall x=3"])
        // The id stays with its device, for the history's sake.
        .when(5, Says("d/lamp", r#"{"x":4}"#))
        .then(&["discovered lamp@s (lamp of s)", "lamp@s x=4"])
        .counted("clashes", 1);
    assert_eq!(story.device("lamp").0, DeviceId(0));
    assert_eq!(&*story.device("lamp").1.name, "hall");
}

#[test]
fn a_device_can_have_its_name_back() {
    given(settings(), &[(0, Says("d/lamp", "{}"))])
        .when(1, Renamed("lamp", "hall"))
        .then(&["renamed lamp hall (hall)"])
        .when(2, Renamed("hall", "lamp"))
        .then(&["renamed hall lamp (lamp)"])
        .when(3, Says("d/lamp", r#"{"x":1}"#))
        .then(&["named x", "lamp x=1"])
        .counted("clashes", 0);
}

#[test]
fn a_name_that_another_device_has_is_refused() {
    given(settings(), &[(0, Says("d/lamp", "{}")), (1, Says("d/hall", "{}"))])
        .when(2, Renamed("lamp", "hall"))
        .then(&[])
        .refused("device lamp is called hall now, but that is device hall already")
        .counted("clashes", 1)
        .when(3, Says("d/lamp", r#"{"x":1}"#))
        .then(&["named x", "lamp x=1"])
        // A retired device gives up its name; its id stays its own.
        .when(4, Says("d/hall", ""))
        .then(&["retired hall"])
        .when(5, Renamed("lamp", "hall"))
        .then(&["renamed lamp hall@s (hall)"])
        .when(6, Says("d/hall", r#"{"x":2}"#))
        .then(&["hall@s x=2"])
        .restarted(settings())
        .when(7, Says("d/hall", r#"{"x":3}"#))
        .then(&["hall@s x=3"]);
    // In another namespace the name is free.
    given(settings(), &[(0, Says("d/lamp", "{}")), (1, SaysOn(1, "d/hall", "{}"))])
        .when(2, Renamed("lamp", "hall"))
        .then(&["renamed lamp hall@s (hall)"]);
    given(settings(), &[(0, Says("d/lamp", "{}"))])
        .when(1, Renamed("lamp", &"n".repeat(300)))
        .then(&[])
        .refused("a name of 300 bytes");
}
