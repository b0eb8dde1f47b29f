//! `fieldlog init`, `doctor` and `check-config`: from nothing to a configuration, and what is wrong with one.

use std::os::unix::fs::PermissionsExt;

use fieldlog_sim::servers::tls::Certificates;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::nats::NatsServer;
use fieldlog_tests::process::free_port;
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::receiver::Receiver;

use super::{assert_says, call};

#[tokio::test]
async fn a_configuration_is_made_of_what_the_broker_has() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let publisher = Publisher::start(mosquitto.port);
    publisher.post(
        [
            ("tele/plug/LWT", "Online"),
            ("tele/plug/STATE", r#"{"POWER":"ON"}"#),
            ("plant/pump/data", r#"{"flow":1.5}"#),
        ]
        .map(|(topic, payload)| Post::retained(topic, payload)),
    );
    publisher.idle().await;
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("etc/fieldlog.toml"), dir.path().join("data"));
    let (name, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    let address = format!("mqtt://127.0.0.1:{}", mosquitto.port);
    let init = ["init", "--config", name, "--data-dir", data, "--address", &address, "--seconds", "1"];
    let (code, out, err) = call(&[], &init).await;
    assert_eq!(code, 0, "{err}");
    assert_says(&out, &["preset \"tasmota\" fits 2 topics", &format!("{name}: good\n"), "`fieldlog doctor`"]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_says(
        &text,
        &[data, &address, "preset = \"tasmota\"\n", "topic = \"plant/pump/+device\"\ndecoder = \"json\"\n"],
    );
    let (code, out, err) = call(&[], &["check-config", "--config", name]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");

    // Nothing is overwritten; another source goes beside it.
    let (code, _, err) = call(&[], &init).await;
    assert_eq!(code, 64);
    assert_says(&err, &["has a source \"home\" already; choose another name with --name"]);
    let more = ["--name", "attic", "--preset", "esphome"];
    let (code, _, err) = call(&[], &[&init[..], &more].concat()).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let (code, out, _) = call(&[], &["check-config", "--config", name]).await;
    assert_eq!(code, 0);
    assert_says(&out, &["source \"home\"", "source \"attic\"", "conf.d/attic.toml: good"]);

    let told = call(&[], &[&init[..], &["--name", "shed", "--json"]].concat()).await;
    assert_eq!(told.0, 0, "{told:?}");
    assert_says(&told.2, &["Listening at ", "preset \"tasmota\" fits 2 topics"]);
    let written: serde_json::Value = serde_json::from_str(&told.1).unwrap();
    let shed = dir.path().join("etc/conf.d/shed.toml");
    assert_eq!(written["file"], shed.to_str().unwrap());
    assert_eq!(written["text"], std::fs::read_to_string(&shed).unwrap());
    assert_eq!(written["check"]["good"], true, "{written}");
    let (code, out, err) = call(&[], &["check-config", "--config", name, "--json"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), written["check"]);
    assert_eq!(written["check"]["summary"]["sources"].as_array().unwrap().len(), 3, "{written}");

    let (code, out, err) = call(&[], &["doctor", "--config", name]).await;
    assert_eq!(code, 0, "{out}{err}");
    let good =
        format!("good   source \"home\": the broker at 127.0.0.1:{} lets this client in\n", mosquitto.port);
    assert_says(
        &out,
        &[&good, "note   fieldlog: it cannot be asked: cannot reach fieldlog at ", "\nNothing is wrong.\n"],
    );
}

#[tokio::test]
async fn nothing_is_written_without_a_broker_or_anything_to_record() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fieldlog.toml");
    let name = file.to_str().unwrap();
    let port = free_port();
    let address = format!("mqtt://127.0.0.1:{port}");
    let (code, _, err) =
        call(&[], &["init", "--config", name, "--address", &address, "--seconds", "1"]).await;
    assert_eq!(code, 69);
    assert_says(&err, &[&format!("the broker at 127.0.0.1:{port} could not be listened to: ")]);
    let (code, _, err) = call(&[], &["init", "--config", name, "--address", "127.0.0.1"]).await;
    assert_eq!(code, 64);
    assert_says(&err, &["it must begin with mqtt:// or mqtts://"]);
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let address = format!("mqtt://127.0.0.1:{}", mosquitto.port);
    let (code, _, err) =
        call(&[], &["init", "--config", name, "--address", &address, "--seconds", "1"]).await;
    assert_eq!(code, 69);
    assert_says(&err, &["so nothing is written", "--seconds", "--preset"]);
    assert!(!file.exists());
}

#[tokio::test]
async fn what_is_wrong_with_a_broker_or_a_sink_is_found() {
    let Some(certificates) = Certificates::make() else { return };
    let Some(with_tls) = Mosquitto::start(&certificates.mosquitto()) else { return };
    let Some(nats) = NatsServer::start("authorization { token: hunter2 }") else { return };
    let Some(guarded) = Mosquitto::start("password_file DIR/nobody\nallow_anonymous false") else { return };
    let receiver = Receiver::http().await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hunter2").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (file, data) = (dir.path().join("fieldlog.toml"), dir.path().join("data"));
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o750)).unwrap();
    let source = |name: &str, address: &str, more: &str| {
        format!(
            "[[source]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}[[source.subscription]]\npreset = \"tasmota\"\n"
        )
    };
    let tls = format!("[source.tls]\nca_file = {:?}\n", certificates.ca_file());
    let text = format!(
        "data_dir = {data:?}\n[http]\nlisten = \"\"\n{}{}{}{}\
         [[sink]]\nname = \"cloud\"\naddress = \"http://{}/in\"\n[[sink]]\nname = \"lost\"\naddress = \"http://127.0.0.1:{}/\"\n\
         [[sink]]\nname = \"bus\"\naddress = \"nats://127.0.0.1:{}\"\ntoken_file = {token:?}\n\
         [[sink]]\nname = \"stranger\"\naddress = \"nats://127.0.0.1:{}\"\n",
        source("good", &format!("mqtts://127.0.0.1:{}", with_tls.port), &tls),
        source("guarded", &format!("mqtt://127.0.0.1:{}", guarded.port), "username = \"u\"\n"),
        source("plain", &format!("mqtt://127.0.0.1:{}", with_tls.port), "client_id = \"x\"\n"),
        source("secure", &format!("mqtts://127.0.0.1:{}", guarded.port), &tls),
        receiver.address(),
        free_port(),
        nats.port,
        nats.port,
    );
    std::fs::write(&file, &text).unwrap();
    let name = file.to_str().unwrap();
    let (code, out, err) = call(&[], &["doctor", "--config", name]).await;
    assert_eq!(code, 1, "{out}{err}");
    assert_says(
        &out,
        &[
            "good   data directory ",
            &format!(
                "good   source \"good\": the broker at 127.0.0.1:{} lets this client in\n",
                with_tls.port
            ),
            "WRONG  source \"guarded\": the broker at 127.0.0.1:",
            "not authorized: check `username` and `password_file`",
            &format!(
                "WRONG  source \"plain\": 127.0.0.1:{} speaks TLS, and the address asks for none",
                with_tls.port
            ),
            &format!("WRONG  source \"secure\": 127.0.0.1:{} does not answer in TLS", guarded.port),
            "good   sink \"cloud\": ",
            "no event was sent\n",
            "WRONG  sink \"lost\": cannot connect to 127.0.0.1:",
            &format!("good   sink \"bus\": nats://127.0.0.1:{} lets this client in", nats.port),
            "WRONG  sink \"stranger\": nats://127.0.0.1:",
            "\n5 things are wrong.\n",
        ],
    );
    let (code, out, _) = call(&[], &["doctor", "--json", "--config", name]).await;
    assert_eq!(code, 1);
    let findings: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(findings.iter().filter(|found| found["verdict"] == "wrong").count(), 5, "{out}");

    // `probe` says the same, and does not listen to the end.
    let (code, _, err) =
        call(&[], &["probe", "--config", name, "--source", "guarded", "--seconds", "3600"]).await;
    assert_eq!(code, 69);
    assert_says(
        &err,
        &["could not be listened to: ", "not authorized: check `username` and `password_file`"],
    );
}

#[tokio::test]
async fn a_configuration_with_faults_ends_the_doctor_with_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fieldlog.toml");
    std::fs::write(&file, "gateway_id = \"g\"\n[log]\ncommit_delay_ms = 0\n").unwrap();
    let (code, out, err) = call(&[], &["doctor", "--config", file.to_str().unwrap()]).await;
    assert_eq!((code, out.as_str()), (78, ""));
    assert_says(&err, &["log.commit_delay_ms: 0 is out of range", " (line 3)\n"]);
}

#[tokio::test]
async fn faults_and_presets_are_told_to_programs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fieldlog.toml");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "gateway_id = \"g\"\n[log]\ncommit_delay_ms = 0\n").unwrap();
    let (code, out, err) = call(&[], &["check-config", "--config", name, "--json"]).await;
    assert_eq!((code, err.as_str()), (78, ""));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let fault = &told["faults"][0];
    assert_eq!((&told["good"], &fault["file"], &fault["line"]), (&false.into(), &name.into(), &3.into()));
    assert_eq!(fault["place"], "log.commit_delay_ms");

    let (code, out, _) = call(&[], &["presets", "tasmota", "--json"]).await;
    assert_eq!(code, 0);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let (_, rules, _) = call(&[], &["presets", "tasmota"]).await;
    assert_eq!((&told["name"], &told["rules"]), (&"tasmota".into(), &rules.into()), "{told}");
}

#[tokio::test]
async fn a_man_page_is_printed_for_each_command() {
    let (code, out, err) = call(&[], &["man", "quarantine", "requeue"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert_says(&out, &[".TH fieldlog-quarantine-requeue 1", ".SH SYNOPSIS", "\\-\\-topic"]);
    let (code, out, err) = call(&[], &["man", "stats"]).await;
    assert_eq!((code, out.as_str()), (64, ""));
    assert_says(&err, &["fieldlog has no command \"stats\"; it has run, init, "]);
}

/// A certificate of another authority is said in plain words, and once.
#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_said_once() {
    let (Some(certificates), Some(others)) = (Certificates::make(), Certificates::make()) else { return };
    let Some(mosquitto) = Mosquitto::start(&certificates.mosquitto()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fieldlog.toml");
    let (name, address) = (file.to_str().unwrap(), format!("mqtts://127.0.0.1:{}", mosquitto.port));
    let why = "the certificate of `127.0.0.1` is from an authority that is not known here; `ca_file` must name the \
               certificate of that authority\n";
    let ca = others.ca_file();
    let init = ["init", "--config", name, "--address", &address, "--ca-file", ca.to_str().unwrap()];
    let text = format!(
        "[[source]]\nname = \"home\"\naddress = \"{address}\"\n[source.tls]\nca_file = {ca:?}\n[[source.subscription]]\n\
         preset = \"tasmota\"\n"
    );
    let init = call(&[], &[&init[..], &["--seconds", "2"]].concat()).await;
    std::fs::write(&file, text).unwrap();
    let probe = call(&[], &["probe", "--config", name, "--seconds", "2"]).await;
    for (code, out, err) in [init, probe] {
        assert_eq!((code, out.as_str()), (69, ""), "{err}");
        assert_eq!(err.lines().count(), 2, "{err}");
        assert_says(&err, &["istening ", why]);
    }
}
