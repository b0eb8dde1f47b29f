//! What the API offers: each operation, in the order in which it is shown.

use fieldlog_wire::api::commands::CommandBody;
use fieldlog_wire::api::hub::{
    AttributeState, Change, CommandTaken, Fleet, Found, Gateway, GatewayLog, HubCommand, HubCommandAnswer,
    HubDevice, HubEvent, Items, Source, Store, WindowNumbers,
};
use fieldlog_wire::openapi::parameters::{
    self, from, limit, query, reference, required, some_text, text, time,
};
use fieldlog_wire::openapi::{Document, Head, Operation};
use fieldlog_wire::{cloudevent, compact, resend};
use serde_json::{Value, json};

const DESCRIPTION: &str = "Times are RFC 3339 in UTC. A parameter that is misspelt, given twice or out of range is refused; an \
     empty one counts as absent. `[[token]]` of the configuration says what a token allows: to send parcels, to read, to send \
     commands, or to decide about gateways.";
/// The headers that a parcel's manifest is sent in, and what they say.
const MANIFEST: [(&str, &str); 9] = [
    ("gateway", "The gateway's id."),
    ("epoch", "The incarnation of its log, in 16 hexadecimal digits."),
    ("first", "The first position that the parcel covers."),
    ("last", "The last."),
    ("lane", "`live`, `backlog` or `priority`."),
    ("before", "The chain before the first position, in 64 hexadecimal digits."),
    ("after", "The chain after the last."),
    ("head", "The newest position of the log."),
    ("events", "How many events the parcel has."),
];

/// The description.
pub fn document() -> Document {
    let mut document = Document::new(Head {
        title: "fieldlog-hub",
        summary: "What many gateways have sent: state, history, commands.",
        description: DESCRIPTION,
        parameters: common(),
        every: &[],
    });
    gateways(&mut document);
    devices(&mut document);
    events(&mut document);
    commands(&mut document);
    health(&mut document);
    document
}

fn gateways(document: &mut Document) {
    document.add(
        Operation::get("/api/v1/gateways", "gateways", "Gateways by id, with what is missing of their logs")
            .query([
                query("gateway", text(), "Only the gateway with this id."),
                query("q", text(), "Only gateways in whose id this stands."),
                query(
                    "state",
                    states(),
                    "Only gateways in this state, or in one of several, with commas between them.",
                ),
            ])
            .query([after("gateway"), page()])
            .answers::<Items<Gateway>>(),
    );
    document.add(
        Operation::get("/api/v1/fleet", "gateways", "How many gateways there are, and in which state")
            .answers::<Fleet>(),
    );
    document.add(
        Operation::get("/api/v1/gateways/{gateway}", "gateways", "All logs of a gateway, the newest first")
            .answers::<Items<GatewayLog>>(),
    );
    document.add(
        Operation::post(
            "/api/v1/gateways/{gateway}/resume",
            "gateways",
            "Takes parcels again of a gateway whose log was stopped",
        )
        .also_empty(204, "They are taken again."),
    );
    document.add(
        Operation::get("/api/v1/stores", "gateways", "How the stores are doing that follow the tables")
            .answers::<Items<Store<'_>>>(),
    );
    document.add(
        Operation::get("/api/v1/sources", "gateways", "How the streams of parcels are doing that are read")
            .answers::<Items<Source<'_>>>(),
    );
}

fn devices(document: &mut Document) {
    document.add(
        Operation::get("/api/v1/devices", "devices", "Devices by gateway and id, with their state")
            .query([
                query("gateway", text(), "Only devices of this gateway."),
                query("device", text(), "Only devices with this id."),
                query("q", text(), "Only devices in whose id or description this stands."),
            ])
            .query([after("gateway/device"), page(), min_seq()])
            .answers::<Items<HubDevice>>(),
    );
    document.add(
        Operation::get(
            "/api/v1/search",
            "devices",
            "Devices by words of their ids and descriptions, and messages that gateways could not read",
        )
        .query([required(
            "q",
            json!({"type": "string", "minLength": 1, "maxLength": 256}),
            "Words that must all be there; the last one may go on.",
        )])
        .query([query("gateway", text(), "Only what is of this gateway.")])
        .query([query(
            "after",
            json!({"type": "string", "pattern": "^(device/[^/]*/|quarantine/[^/]*/[0-9]{1,18}$)"}),
            "Go on after this: the `next` of the page before.",
        )])
        .query([page(), min_seq()])
        .answers::<Found>(),
    );
    document.add(
        Operation::get("/api/v1/state", "devices", "The values of a device, by attribute")
            .query([
                required("gateway", some_text(), "The gateway."),
                required("device", some_text(), "The device."),
            ])
            .query([after("attribute"), page(), min_seq()])
            .answers::<Items<AttributeState>>(),
    );
    document.add(
        Operation::get("/api/v1/history", "devices", "The values that an attribute got, oldest first")
            .query(attribute())
            .query([from(), to(), after_seq(), before(), page(), min_seq()])
            .answers::<Items<Change>>(),
    );
    document.add(
        Operation::get("/api/v1/aggregates", "devices", "The numbers of an attribute, by window")
            .query(attribute())
            .query([query(
                "length_s",
                json!({"type": "integer", "enum": [60, 3_600, 86_400]}),
                "Length of a window in seconds; 60 by default.",
            )])
            .query([from(), to(), page(), min_seq()])
            .answers::<Items<WindowNumbers>>(),
    );
}

fn events(document: &mut Document) {
    document.add(
        Operation::get("/api/v1/events", "events", "Events of a gateway's newest log by position")
            .query([
                required("gateway", some_text(), "The gateway."),
                query("device", text(), "Only events about this device."),
                query("type", text(), "Only events of this type, such as `state_changed`, or of several, with commas between them."),
            ])
            .query([from(), to(), after_seq(), before(), page(), min_seq()])
            .answers::<Items<HubEvent>>(),
    );
    let parcel = Operation::post("/events", "events", "Takes a parcel, as a gateway's HTTP sink sends it")
        .takes_any(&[cloudevent::BATCH_CONTENT_TYPE, compact::CONTENT_TYPE])
        .also_empty(204, "It is stored.")
        .refuses_in_words()
        .answers_as::<resend::Request>(resend::CONTENT_TYPE);
    let parcel = MANIFEST
        .iter()
        .fold(parcel, |parcel, (name, words)| parcel.header(&format!("fieldlog-{name}"), words));
    document.add(parcel);
}

fn commands(document: &mut Document) {
    document.add(
        Operation::get("/api/v1/commands", "commands", "Commands to a gateway's devices by id")
            .query([
                required("gateway", some_text(), "The gateway."),
                query("device", text(), "Only commands to this device."),
                query("state", text(), "Only commands in this state."),
            ])
            .query([after_seq(), before(), page(), min_seq()])
            .answers::<Items<HubCommand>>(),
    );
    document.add(
        Operation::post(
            "/api/v1/gateways/{gateway}/devices/{device}/commands",
            "commands",
            "Hands a command to the gateway; its answer",
        )
        .header("traceparent", "The trace context, as in W3C Trace Context, which is handed on.")
        .takes::<CommandBody>(true)
        .answers::<CommandTaken<'_>>()
        .also(202, "It is recorded; what becomes of it comes with the gateway's events."),
    );
    document.add(
        Operation::get(
            "/api/v1/gateways/{gateway}/commands/{command}",
            "commands",
            "One command, with every step of it that has arrived",
        )
        .answers::<HubCommandAnswer>(),
    );
}

fn health(document: &mut Document) {
    document.add(
        Operation::get("/livez", "health", "Whether the process runs").streams("text/plain", "It does."),
    );
    document.add(
        Operation::get("/readyz", "health", "Whether parcels can be stored")
            .streams("text/plain", "They can.")
            .also(503, "They cannot: PostgreSQL does not answer."),
    );
    document.add(
        Operation::get("/metrics", "health", "Metrics for Prometheus")
            .streams("application/openmetrics-text", "OpenMetrics text."),
    );
    document.add(Operation::get("/openapi.json", "health", "This description").streams(JSON, "OpenAPI 3.1."));
}

const JSON: &str = "application/json";

fn attribute() -> [Value; 3] {
    [
        required("gateway", some_text(), "The gateway."),
        required("device", some_text(), "The device."),
        required("attribute", some_text(), "The attribute."),
    ]
}

fn page() -> Value {
    limit(10_000, 100)
}

fn to() -> Value {
    time("to", "Before this time.")
}

fn after(what: &str) -> Value {
    query("after", text(), &format!("Go on after the item with this `{what}`."))
}

fn after_seq() -> Value {
    query("after", position(), "Go on after the item with this position.")
}

fn before() -> Value {
    query("before", position(), "The newest first, and only those before this position.")
}

fn states() -> Value {
    let one = "(forked|contradicted|silent|gaps|behind|lost|complete)";
    json!({"type": "string", "pattern": format!("^{one}(,{one})*$")})
}

fn position() -> Value {
    parameters::position(i64::MAX as u64)
}

fn min_seq() -> Value {
    reference("min_seq")
}

fn common() -> Value {
    let min_seq = "Wait until everything of the gateway's newest log is here up to this position, or lost; `gateway` is needed. \
                   503 after 5 seconds.";
    json!({"min_seq": query("min_seq", position(), min_seq)})
}
