//! `fieldlog try` on the command line: output and exit codes.

use fieldlog_tests::process::call;

fn tried(arguments: &[&str]) -> (i32, String, String) {
    call(&[&["try"], arguments].concat())
}

#[test]
fn a_preset_says_what_would_be_recorded() {
    let (code, out, err) = tried(&[
        "--preset",
        "tasmota",
        "--base",
        "home",
        "--topic",
        "home/tele/kitchen/SENSOR",
        "--payload",
        r#"{"DS18B20":{"Temperature":20.6}}"#,
        "--payload",
        r#"{"DS18B20":{"Temperature":20.6}}"#,
    ]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "kitchen  discovered\nkitchen  DS18B20.Temperature = 20.6\nunchanged\n");
}

#[test]
fn programs_are_told_which_message_a_line_is_about() {
    let (code, out, err) = tried(&[
        "--preset",
        "tasmota",
        "--topic",
        "stat/plug/RESULT",
        "--payload",
        r#"{"POWER":"OFF"}"#,
        "--device",
        "plug",
        "--command",
        r#"{"attribute":"POWER","value":"ON"}"#,
        "--json",
    ]);
    assert_eq!((code, err.as_str()), (0, ""));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let line = |topic: Option<&str>, text: &str| serde_json::json!({"topic": topic, "text": text});
    let topic = Some("stat/plug/RESULT");
    let lines = [
        line(topic, "plug  discovered"),
        line(topic, "plug  POWER = \"OFF\""),
        line(None, "plug  command publishes cmnd/plug/POWER ON"),
    ];
    assert_eq!(told, serde_json::json!({"lines": lines}));
}

#[test]
fn a_command_is_tried_with_what_the_device_answers() {
    let with = |more: &[&str]| {
        let plug = ["--preset", "tasmota", "--topic", "stat/plug/RESULT", "--payload", r#"{"POWER":"OFF"}"#];
        let (code, out, err) = tried(&[&plug, more].concat());
        assert_eq!((code, err.as_str()), (0, ""));
        out.strip_prefix("plug  discovered\nplug  POWER = \"OFF\"\n").unwrap().to_owned()
    };
    let on = ["--device", "plug", "--command", r#"{"attribute":"POWER","value":"ON"}"#];
    assert_eq!(with(&on), "plug  command publishes cmnd/plug/POWER ON\n");
    let answered = ["--payload", r#"{"POWER":"ON"}"#, "--command-after", "1"];
    assert_eq!(
        with(&[&on[..], &answered[..]].concat()),
        "plug  command publishes cmnd/plug/POWER ON\nplug  POWER = \"ON\"\nplug  command 1 applied\n"
    );
    let half = ["--device", "plug", "--command", r#"{"attribute":"POWER","value":"HALF"}"#];
    assert_eq!(
        with(&half),
        "plug  command refused: `value` is \"HALF\"; `POWER` takes one of \"ON\", \"OFF\"\n"
    );
    assert_eq!(
        with(&["--device", "plug"]),
        "plug  can be told POWER\nplug  can be told POWER/toggle\nplug  can be told restart\n"
    );
    let (code, _, err) = tried(&[
        "--preset",
        "tasmota",
        "--topic",
        "x",
        "--payload",
        "1",
        "--device",
        "plug",
        "--command",
        "{",
    ]);
    assert_eq!(code, 64);
    assert!(err.starts_with("--command is not a command: "), "{err}");
}

/// The devices of a second preset have a namespace of their own, which a block for them must name.
#[test]
fn a_block_for_devices_of_a_second_preset_is_missed_with_its_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let told = |namespace: &str| {
        let config = dir.path().join("fieldlog.toml");
        let text = format!(
            "data_dir = {:?}\n[[source]]\nname = \"home\"\naddress = \"mqtt://broker.invalid\"\n\
             [[source.command]]\nattribute = \"Speed\"\ntopic = \"cmnd/{{device}}/SPEED\"\n{namespace}\
             [[source.subscription]]\npreset = \"zigbee2mqtt\"\n[[source.subscription]]\npreset = \"tasmota\"\n",
            dir.path().join("data")
        );
        std::fs::write(&config, text).unwrap();
        let (code, out, err) = tried(&[
            "--config",
            config.to_str().unwrap(),
            "--topic",
            "tele/fan/STATE",
            "--payload",
            r#"{"Speed":1}"#,
            "--device",
            "fan",
            "--command",
            r#"{"attribute":"Speed","value":2}"#,
        ]);
        assert_eq!((code, err.as_str()), (0, ""));
        out.lines().last().unwrap().to_owned()
    };
    assert_eq!(
        told(""),
        "fan  command refused: `attribute`: device `fan` cannot be told `Speed`; it can be told `restart`. The \
         block that is for it is for devices of namespace `home`, and this device is in `home.tasmota`: write a \
         [[source.command]] block with namespace = \"home.tasmota\""
    );
    assert_eq!(told("namespace = \"home.tasmota\"\n"), "fan  command publishes cmnd/fan/SPEED 2");
}

#[test]
fn a_configuration_is_tried_and_its_data_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (dir.path().join("fieldlog.toml"), dir.path().join("data"));
    let source = |name: &str, attribute: &str| {
        format!(
            "[[source]]\nname = {name:?}\naddress = \"mqtt://broker.invalid\"\n[[source.subscription]]\n\
             topic = \"+device/x\"\ndecoder = \"scalar\"\nattribute = {attribute:?}\n"
        )
    };
    let text = format!("data_dir = {data:?}\n{}{}", source("a", "x"), source("b", "y"));
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let with = |more: &[&str]| tried(&[&["--config", config, "--topic", "d/x"], more].concat());

    let (code, out, _) = with(&["--source", "b", "--payload-hex", "31 32"]);
    assert_eq!((code, out.as_str()), (0, "d  discovered\nd  y = 12\n"));
    assert!(!data.exists());

    let (code, _, err) = with(&["--payload", "1"]);
    assert_eq!(code, 64);
    assert_eq!(err, "the configuration has several sources: a, b; choose one with --source\n");
    let (code, _, err) = with(&["--source", "c", "--payload", "1"]);
    assert_eq!((code, err.as_str()), (64, "the configuration has no source \"c\"; it has a, b\n"));
    let (code, _, err) = with(&["--source", "a", "--topic", "d/y", "--payload", "1"]);
    assert_eq!(code, 64);
    assert_eq!(err, "there are 2 topics and 1 payload; give each payload a topic, or one to all\n");
}

#[test]
fn what_cannot_be_tried_is_said_in_words() {
    let (code, _, err) = tried(&["--preset", "tasmoto", "--topic", "x", "--payload", "1"]);
    assert_eq!(code, 78);
    assert!(err.contains("did you mean tasmota?"), "{err}");
    let (code, _, err) = tried(&["--preset", "tasmota", "--topic", "a/+/c", "--payload", "1"]);
    assert_eq!(code, 64);
    assert!(err.starts_with("\"a/+/c\" is not the topic of a message"), "{err}");
    let (code, _, err) = tried(&["--preset", "tasmota", "--topic", "a"]);
    assert_eq!(code, 64);
    assert!(err.contains("--payload-file"), "{err}");
    let (code, _, err) = tried(&["--preset", "tasmota", "--topic", "a", "--payload-file", "/nowhere"]);
    assert_eq!(code, 64);
    assert!(err.starts_with("/nowhere cannot be read"), "{err}");
}
