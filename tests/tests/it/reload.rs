//! SIGHUP: keys that change at once, keys that need a restart, and refused configurations.

use fieldlog_projections::Fact;
use fieldlog_sim::broker::Qos;
use fieldlog_tests::logbook::Logbook;

use crate::daemon::Site;

const MORE: &str = "[[source.subscription]]\ntopic = \"u/+device/state\"\ndecoder = \"json\"\n";

#[tokio::test]
async fn a_new_rule_is_in_effect_without_a_restart() {
    let mut site = Site::new().await;
    let config = site.configure_usual();
    let process = site.run(&config);
    site.ready().await;
    site.publish("t/a/state", r#"{"n":1}"#).await;
    site.broker.publish("u/b/state", r#"{"n":1}"#, true, Qos::AtLeastOnce).unwrap();
    site.told("one device", |state| state.starts_with("STATUS=1/1 sources connected, 1 device (")).await;

    site.configure(&format!("data_dir = {:?}", site.data_dir()), MORE);
    process.signal("HUP");
    process.says("reload: source \"plant\" subscription changed", 0).await;
    // Its retained message comes with the new subscription.
    site.told("another device", |state| state.starts_with("STATUS=1/1 sources connected, 2 devices")).await;
    site.publish("t/a/state", r#"{"n":2}"#).await;
    site.publish("u/c/state", r#"{"n":1}"#).await;

    let said = process.words().len();
    process.signal("HUP");
    process.says("reload: nothing has changed", said).await;
    process.signal("TERM");
    assert_eq!(process.ended().await.code, 0);
    let log = Logbook::read(&site.data_dir());
    assert_eq!(log.changes().count(), 4);
    let changed: Vec<_> =
        log.records.iter().filter(|(_, _, fact)| matches!(fact, Fact::ConfigChanged { .. })).collect();
    let Fact::ConfigChanged { keys } = &changed[0].2 else { unreachable!() };
    assert_eq!((changed.len(), keys.as_slice()), (1, &["source \"plant\" subscription".to_owned()][..]));
}

#[tokio::test]
async fn what_cannot_be_changed_is_said_and_the_rest_is_applied() {
    let mut site = Site::new().await;
    let config = site.configure_usual();
    let process = site.run(&config);
    site.ready().await;
    let elsewhere = site.dir.path().join("elsewhere");
    site.configure(&format!("data_dir = {elsewhere:?}"), MORE);
    process.signal("HUP");
    process.says("data_dir has changed, but takes effect only after a restart", 0).await;
    process.says("reload: source \"plant\" subscription changed", 0).await;
    // The subscription is there as soon as its first message is acknowledged.
    site.publish("t/a/state", r#"{"n":1}"#).await;
    loop {
        site.broker.publish("u/b/state", r#"{"n":1}"#, false, Qos::AtLeastOnce).unwrap();
        let state = site.told("a status", |state| state.starts_with("STATUS=")).await;
        if state.starts_with("STATUS=1/1 sources connected, 2 devices") {
            break;
        }
    }
    process.signal("TERM");
    assert_eq!(process.ended().await.code, 0);
    assert!(!elsewhere.exists());
    assert_eq!(Logbook::read(&site.data_dir()).state().len(), 2);
}

#[tokio::test]
async fn a_faulty_configuration_is_refused_and_everything_goes_on() {
    let mut site = Site::new().await;
    let config = site.configure_usual();
    let mut process = site.run(&config);
    site.ready().await;
    site.configure("data_dir = 7\ngateway = \"x\"", "[[source.subscription]]\npreset = \"zigbee\"\n");
    process.signal("HUP");
    let said = process.says("reload refused; the old configuration stays in effect", 0).await;
    process.says("preset", 0).await;
    let words = process.words();
    for part in ["3 faults", "data_dir", "gateway", "preset"] {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
    assert!(process.is_running());
    site.publish("t/a/state", r#"{"n":1}"#).await;

    // Once it is corrected, it is taken.
    site.configure(&format!("data_dir = {:?}", site.data_dir()), MORE);
    process.signal("HUP");
    process.says("reload: source \"plant\" subscription changed", said).await;
    process.signal("TERM");
    assert_eq!(process.ended().await.code, 0);
    assert_eq!(Logbook::read(&site.data_dir()).changes().count(), 1);
}
