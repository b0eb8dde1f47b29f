//! What the API offers: each operation, in the order in which it is shown.

use fieldlog_projections::command::CommandState;
use fieldlog_wire::api::administer::{
    BackupBody, BackupDone, DeviceDone, Nothing, QuarantineBody, QuarantineDone, ReasonBody, RenameBody,
    RetryDone, SnapshotDone,
};
use fieldlog_wire::api::aggregates::AggregatesAnswer;
use fieldlog_wire::api::alerts::AlertPage;
use fieldlog_wire::api::commands::{CommandAnswer, CommandBody, CommandPage, CommandSetAnswer, TwinAnswer};
use fieldlog_wire::api::devices::{DeviceAnswer, DevicePage};
use fieldlog_wire::api::diff::{DiffAnswer, DiffPage};
use fieldlog_wire::api::events::{EventAnswer, EventPage};
use fieldlog_wire::api::health::{CONTENT_TYPE as HEALTH, Health, Version};
use fieldlog_wire::api::history::HistoryPage;
use fieldlog_wire::api::named::{Declarations, NamedPage};
use fieldlog_wire::api::quarantine::QuarantinePage;
use fieldlog_wire::api::session::{LoginBody, SessionAnswer};
use fieldlog_wire::api::status::Status;
use fieldlog_wire::api::why::WhyAnswer;
use fieldlog_wire::openapi::parameters::{
    self, from, limit, number, query, reference, required, some_text, text, time, words,
};
use fieldlog_wire::openapi::{Document, Head, Operation};
use serde_json::{Value, json};

type History = HistoryPage<'static>;

const DESCRIPTION: &str = "Answers say with `position` which records they include. Times are RFC 3339 in UTC. A parameter that \
     is misspelt, given twice or out of range is refused; an empty one counts as absent. What changes something needs a token that \
     allows it; over the Unix socket no token is needed.";

/// The description.
pub fn document() -> Document {
    let mut document = Document::new(Head {
        title: "fieldlog",
        summary: "State, history and commands of the devices of one gateway.",
        description: DESCRIPTION,
        parameters: common(),
        every: &["min_seq", "epoch", "min_seq_timeout_ms"],
    });
    all(&mut document);
    document
}

fn all(document: &mut Document) {
    state(document);
    past(document);
    log(document);
    commands(document);
    alerts(document);
    changes(document);
    session(document);
    health(document);
}

fn state(document: &mut Document) {
    document.add(
        Operation::get("/api/v1/devices", "devices", "Devices by id, with the values of their attributes")
            .query([after_id(), limit(1_000, 200), query("source", text(), "Only devices of this source.")])
            .query([query(
                "availability",
                words(&["online", "offline", "unknown"]),
                "Only devices that are this.",
            )])
            .query([query("retired", json!({"type": "boolean"}), "Retired devices, too.")])
            .query([at()])
            .answers::<DevicePage<'_>>()
            .revalidates(),
    );
    document.add(
        Operation::get(
            "/api/v1/devices/{id}",
            "devices",
            "One device, with positions and times of its attributes",
        )
        .query([at()])
        .answers::<DeviceAnswer<'_>>()
        .revalidates(),
    );
    document.add(
        Operation::get("/api/v1/devices/{id}/aggregates", "devices", "Aggregates of one number, by window")
            .query([required("attribute", some_text(), "Name of the attribute, which must have numbers.")])
            .query([query(
                "window_s",
                number(1, 31_536_000),
                "Length of a window in seconds; 60 by default.",
            )])
            .query([from(), to(), at()])
            .answers::<AggregatesAnswer<'_>>()
            .revalidates(),
    );
    document.add(
        Operation::get(
            "/api/v1/aggregates",
            "aggregates",
            "The named aggregates and derived attributes that are declared",
        )
        .answers::<Declarations>(),
    );
    document.add(
        Operation::get("/api/v1/aggregates/{name}", "aggregates", "One named aggregate, by device")
            .query([
                query("device", text(), "Only this device."),
                query("attribute", text(), "Only this attribute."),
            ])
            .query([from(), to(), after_id(), limit(1_000, 200)])
            .answers::<NamedPage<'_>>(),
    );
}

fn past(document: &mut Document) {
    document.add(
        Operation::get("/api/v1/devices/{id}/history", "past", "The records about one device, oldest first")
            .query([query("attribute", text(), "Only what is about this attribute.")])
            .query([from(), to(), after_seq(), limit(10_000, 500)])
            .answers::<History>()
            .revalidates(),
    );
    document.add(
        Operation::get(
            "/api/v1/devices/{id}/attributes/{attribute}/why",
            "past",
            "Why an attribute has its value",
        )
        .query([at(), query("limit", number(1, 100), "Earlier changes, at most; 5 by default.")])
        .answers::<WhyAnswer<'_>>()
        .revalidates(),
    );
    document.add(
        Operation::get("/api/v1/devices/{id}/diff", "past", "What is different about one device")
            .query([earlier(), later()])
            .answers::<DiffAnswer<'_>>(),
    );
    document.add(
        Operation::get("/api/v1/diff", "past", "The devices that are different, by id")
            .query([earlier(), later(), after_id(), limit(1_000, 200)])
            .answers::<DiffPage<'_>>(),
    );
}

fn log(document: &mut Document) {
    document.add(
        Operation::get("/api/v1/events", "log", "Records by position, oldest first")
            .query([after_seq(), limit(10_000, 500), from(), to()])
            .query(chosen())
            .answers::<EventPage<'_>>()
            .revalidates(),
    );
    document.add(
        Operation::get("/api/v1/events/stream", "log", "Records as they come, as server-sent events")
            .query([query("after", position(), "Begin after this position; without it, with what comes next.")])
            .query(chosen())
            .header("Last-Event-ID", "Where an earlier stream ended, as its last event had it.")
            .streams(
                "text/event-stream",
                "Each event is named by its type, has `<epoch>-<seq>` as its id, and a record as its data, in the form of \
                 the records of `/api/v1/events`. `reset` says that the position is not in this log, so the state must be \
                 read again; `omitted` stands for a record that is too large for any answer.",
            ),
    );
    document.add(
        Operation::get("/api/v1/events/{seq}", "log", "One record")
            .answers::<EventAnswer<'_>>()
            .revalidates(),
    );
    document.add(
        Operation::get(
            "/api/v1/quarantine",
            "quarantine",
            "Messages that could not be decoded, newest first",
        )
        .query([before(), limit(1_000, 100)])
        .answers::<QuarantinePage<'_>>(),
    );
    document.add(
        Operation::get("/api/v1/quarantine/{seq}", "quarantine", "The payload of one of them")
            .streams("application/octet-stream", "The bytes of the payload, as far as they are kept."),
    );
}

fn commands(document: &mut Document) {
    document.add(
        Operation::post("/api/v1/devices/{id}/commands", "commands", "Ask for a command to a device")
            .query([query("wait", number(0, 60), "Wait this many seconds for the command to be closed.")])
            .header("traceparent", "The trace context, as in W3C Trace Context; an invalid one is ignored.")
            .takes::<CommandBody>(true)
            .answers::<CommandAnswer<'_>>()
            .also(202, "It is accepted and not closed yet. `Location` says where to ask for it."),
    );
    document.add(
        Operation::get("/api/v1/commands", "commands", "Commands, the newest first")
            .query([query("device", text(), "Only commands to this device.")])
            .query(listed())
            .answers::<CommandPage<'_>>(),
    );
    document.add(
        Operation::get(
            "/api/v1/devices/{id}/commands",
            "commands",
            "Commands to one device, the newest first",
        )
        .query(listed())
        .answers::<CommandPage<'_>>(),
    );
    document.add(
        Operation::get("/api/v1/commands/{id}", "commands", "One command")
            .query([at()])
            .answers::<CommandAnswer<'_>>(),
    );
    document.add(
        Operation::get("/api/v1/devices/{id}/command-set", "commands", "What a device can be told")
            .answers::<CommandSetAnswer<'_>>(),
    );
    document.add(
        Operation::get(
            "/api/v1/devices/{id}/twin",
            "commands",
            "What is wanted of a device beside what it reports",
        )
        .query([at()])
        .answers::<TwinAnswer<'_>>(),
    );
}

fn alerts(document: &mut Document) {
    document.add(
        Operation::get("/api/v1/alerts", "alerts", "Alerts that are open, the newest first")
            .query([
                query("device", text(), "Only those about this device."),
                query("rule", text(), "Only those of this rule."),
                query("severity", words(&["warning", "critical"]), "Only those of this severity."),
            ])
            .query([before(), limit(1_000, 100), at()])
            .answers::<AlertPage<'_>>(),
    );
}

/// What a browser does in place of sending a token.
fn session(document: &mut Document) {
    let path = "/api/v1/session";
    document.add(
        Operation::get(path, "session", "What the session of this browser allows")
            .alone()
            .answers::<SessionAnswer>(),
    );
    document.add(
        Operation::post(path, "session", "Log in with a token; the answer sets a cookie")
            .alone()
            .takes::<LoginBody>(true)
            .answers::<SessionAnswer>(),
    );
    document.add(Operation::delete(path, "session", "Log out").alone().answers::<SessionAnswer>());
}

fn changes(document: &mut Document) {
    document.add(
        Operation::post(
            "/api/v1/devices/{id}/retire",
            "changes",
            "Retire a device: its state and history stay",
        )
        .takes::<ReasonBody>(false)
        .answers::<DeviceDone<'_>>(),
    );
    document.add(
        Operation::post("/api/v1/devices/{id}/forget", "changes", "Forget a device: its state is dropped")
            .takes::<ReasonBody>(false)
            .answers::<DeviceDone<'_>>(),
    );
    document.add(
        Operation::post("/api/v1/devices/{id}/rename", "changes", "Give a device another id")
            .takes::<RenameBody>(true)
            .answers::<DeviceDone<'_>>(),
    );
    document.add(
        Operation::post(
            "/api/v1/quarantine/requeue",
            "changes",
            "Read quarantined inputs again, with the current rules",
        )
        .takes::<QuarantineBody>(true)
        .answers::<QuarantineDone<'_>>(),
    );
    document.add(
        Operation::post("/api/v1/quarantine/purge", "changes", "Delete quarantined inputs")
            .takes::<QuarantineBody>(true)
            .answers::<QuarantineDone<'_>>(),
    );
    document.add(
        Operation::post("/api/v1/quarantine/{seq}/requeue", "changes", "Read one quarantined input again")
            .takes::<ReasonBody>(false)
            .answers::<QuarantineDone<'_>>(),
    );
    document.add(
        Operation::delete("/api/v1/quarantine/{seq}", "changes", "Delete one quarantined input")
            .query([query("reason", json!({"type": "string", "maxLength": 512}), "Why, for the log.")])
            .answers::<QuarantineDone<'_>>(),
    );
    document.add(
        Operation::post("/api/v1/snapshot", "changes", "Write the state to disk now")
            .takes::<Nothing>(false)
            .answers::<SnapshotDone>(),
    );
    document.add(
        Operation::post("/api/v1/sinks/{name}/retry", "changes", "Have a sink that waits try again now")
            .takes::<Nothing>(false)
            .answers::<RetryDone<'_>>(),
    );
    document.add(
        Operation::post("/api/v1/backup", "changes", "Copy the log; over the Unix socket only")
            .takes::<BackupBody>(true)
            .answers::<BackupDone<'_>>(),
    );
}

fn health(document: &mut Document) {
    document.add(
        Operation::get("/status", "health", "An overview for operators")
            .query([query(
                "state_digest",
                json!({"type": "boolean"}),
                "With a digest of the state, which costs time.",
            )])
            .answers::<Status>(),
    );
    for (path, summary) in [
        ("/livez", "Whether the agent must be restarted"),
        ("/healthz", "The same as /livez"),
        ("/readyz", "Whether answers are current"),
    ] {
        document.add(
            Operation::get(path, "health", summary)
                .alone()
                .answers_as::<Health>(HEALTH)
                .also(503, "A check has failed."),
        );
    }
    document.add(
        Operation::get("/version", "health", "The version that is running").alone().answers::<Version<'_>>(),
    );
    document.add(
        Operation::get("/metrics", "health", "Metrics for Prometheus")
            .alone()
            .streams("application/openmetrics-text", "OpenMetrics text."),
    );
    document.add(
        Operation::get("/openapi.json", "health", "This description")
            .alone()
            .streams("application/json", "OpenAPI 3.1."),
    );
}

/// Which records.
fn chosen() -> [Value; 4] {
    [
        query("device", text(), "Only records about this device."),
        query("type", text(), "Only records of these types, separated by commas, such as `state_changed`."),
        query("command", position(), "Only records of the command with this id."),
        query(
            "actor",
            text(),
            "Only records that this actor caused, or all whose actor begins so, as in `token:*`.",
        ),
    ]
}

/// Which commands.
fn listed() -> [Value; 6] {
    [
        query("state", states(), "Only commands in one of these states, separated by commas."),
        query("actor", text(), "Only commands that this actor asked for."),
        query("open", json!({"type": "boolean"}), "Only commands that are not closed."),
        before(),
        limit(1_000, 100),
        at(),
    ]
}

/// States of commands, separated by commas.
fn states() -> Value {
    let state = CommandState::ALL.map(CommandState::word).join("|");
    json!({"type": "string", "pattern": format!("^({state})(,({state}))*$")})
}

fn position() -> Value {
    parameters::position(u64::MAX - 1)
}

fn at() -> Value {
    reference("at")
}

fn earlier() -> Value {
    reference("earlier")
}

fn later() -> Value {
    reference("later")
}

fn to() -> Value {
    time("to", "Before this time, which must be later than `from`.")
}

fn after_id() -> Value {
    query("after", text(), "Go on after this id: the `next` of the page before.")
}

fn after_seq() -> Value {
    query("after", position(), "Go on after this position: the `next` of the page before.")
}

fn before() -> Value {
    query("before", position(), "Go on before this position: the `next` of the page before.")
}

/// The parameters that stand in several operations.
fn common() -> Value {
    let moment = |description: &str| {
        json!({"description": description, "schema": {"anyOf": [
            {"type": "integer", "format": "uint64", "minimum": 0}, {"type": "string", "format": "date-time"}]}})
    };
    let query = |name: &str, required: bool, mut value: Value| {
        value["name"] = name.into();
        value["in"] = "query".into();
        value[if required { "required" } else { "allowEmptyValue" }] = true.into();
        value
    };
    let number = json!({"type": "integer", "minimum": 0, "maximum": 10_000});
    json!({
        "at": query("at", false, moment("The state at this moment: a time with an offset, or a position.")),
        "earlier": query("from", true, moment("The earlier moment: a time with an offset, or a position.")),
        "later": query("to", false, moment("The later moment, in the same form; now by default.")),
        "min_seq": query("min_seq", false, json!({
            "description": "Wait until the answer includes this position: a number, or `<epoch>-<seq>` as in an `ETag`.",
            "schema": {"type": "string", "pattern": "^([0-9a-f]{16}-)?[0-9]+$"}})),
        "epoch": query("epoch", false, json!({
            "description": "The epoch that the position is of; 409 if the log has another one.",
            "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"}})),
        "min_seq_timeout_ms": query("min_seq_timeout_ms", false, json!({
            "description": "How long to wait for it, in milliseconds; 2000 by default. Then 504.", "schema": number})),
    })
}
