//! From shelly-api-docs.shelly.cloud, *MQTT* of the first generation and *Shelly.GetDeviceInfo* of the later ones.

use super::*;

fn topics(announcement: &Announcement) -> &[String] {
    match &announcement.device {
        Address::Availability(topics) => topics,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_generation_announces_itself() {
    let payload = json!({
        "id": "shellyswitch25-B929CC", "model": "SHSW-25", "mac": "E868E7B929CC", "ip": "192.168.178.22",
        "new_fw": false, "fw_ver": "20201124-092534/v1.9.0@57ac4ad8",
    });
    let device = one(announced(Announcer::Shelly, "shellies/announce", &payload));
    assert!(device.joined);
    assert_eq!(device.description, is("E868E7B929CC", "", "SHSW-25", "Shelly"));
    assert_eq!(topics(&device), ["shellies/shellyswitch25-B929CC/online", "shellies/online"]);
    let device = one(announced(Announcer::Shelly, "shellies/kitchen/announce", &payload));
    assert_eq!(topics(&device), ["shellies/kitchen/shellyswitch25-B929CC/online", "shellies/kitchen/online"]);
}

#[test]
fn later_ones_answer_to_whoever_asks() {
    let payload = json!({
        "id": 1, "src": "shellypro4pm-f008d1d8b8b8", "dst": "user_1",
        "result": {
            "name": "Cellar", "id": "shellypro4pm-f008d1d8b8b8", "mac": "F008D1D8B8B8", "model": "SPSW-004PE16EU", "gen": 2,
            "fw_id": "20210720-153353/0.6.7-gc36674b", "ver": "0.6.7", "app": "Pro4PM", "auth_en": true,
        },
    });
    let device = one(announced(Announcer::Shelly, "user_1/rpc", &payload));
    assert_eq!(topics(&device), ["shellypro4pm-f008d1d8b8b8/online"]);
    assert_eq!(device.description, is("F008D1D8B8B8", "Cellar", "SPSW-004PE16EU", "Shelly"));
    let device = one(announced(Announcer::Shelly, "home/user_1/rpc", &payload));
    assert_eq!(topics(&device), ["home/shellypro4pm-f008d1d8b8b8/online"]);
}

#[test]
fn requests_and_other_answers_announce_nothing() {
    let request = json!({ "id": 1, "src": "user_1", "method": "Shelly.GetDeviceInfo" });
    let answer =
        json!({ "id": 2, "src": "shellyplus1-a8032abe54dc", "dst": "user_1", "result": { "was_on": false } });
    for payload in [request, answer] {
        assert_eq!(announced(Announcer::Shelly, "x/rpc", payload), Announcements::default());
    }
    assert_eq!(announced(Announcer::Shelly, "shellies/announce", "{}"), Announcements::default());
    assert_eq!(announced(Announcer::Shelly, "shellies/announce", ""), Announcements::default());
}
