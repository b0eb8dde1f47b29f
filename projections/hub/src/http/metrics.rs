//! `/metrics`, in the OpenMetrics text format: the counters of this process, and the gateways as the tables have them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{FromRequestParts, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::App;
use super::problem::Problem;
use super::reading::allow;
use crate::follow::{STORES, Standing, State as StoreState};
use crate::metrics::Answers;
use crate::source;
use crate::token::Scope;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A request that may read.
pub(super) struct Scrape;

impl FromRequestParts<App> for Scrape {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Scrape, Problem> {
        allow(parts, app, Scope::Read).map(|()| Scrape)
    }
}

/// Answers a scrape.
pub(super) async fn metrics(State(app): State<App>, _: Scrape) -> Result<Response, Problem> {
    let sql = "SELECT gateway, coalesce(lag_events, 0), coalesce(newest_age_s, 0)::float8,
            coalesce(jsonb_array_length(missing), 0)::bigint, (forked IS NOT NULL)::integer::bigint,
            (SELECT count(*) FROM jsonb_array_elements(gaps) gap WHERE gap ->> 'state' = 'lost'),
            coalesce(lag_s, 0)::float8
        FROM gateway_lag ORDER BY gateway";
    let rows = app.readers.query(sql, &[]).await.map_err(|why| Problem::database(&why))?;
    let gateways = rows.iter().map(|row| Gateway {
        name: row.get(0),
        lag_events: row.get(1),
        newest_age_s: row.get(2),
        gaps: row.get(3),
        forked: row.get(4),
        lost: row.get(5),
        lag_s: row.get(6),
    });
    let mut registry = Registry::default();
    registry
        .sub_registry_with_prefix("fieldlog_hub")
        .register_collector(Box::new(Metrics { gateways: gateways.collect(), app }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .map_err(|error| Problem::database(&error.to_string()))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

#[derive(Debug)]
struct Gateway {
    name: String,
    lag_events: i64,
    newest_age_s: f64,
    gaps: i64,
    forked: i64,
    lost: i64,
    lag_s: f64,
}

struct Metrics {
    app: App,
    gateways: Vec<Gateway>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metrics").field(&self.gateways).finish()
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    gateway: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSource {
    source: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfStore {
    store: &'static str,
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counters = &self.app.counters;
        let help = "Messages by outcome: stored, forked (of a stopped log), busy (could not be stored then), malformed.";
        let mut parcels = encoder.encode_descriptor("parcels", help, None, MetricType::Counter)?;
        let outcomes: [(&str, &AtomicU64); 4] = [
            ("stored", &counters.stored),
            ("forked", &counters.forked),
            ("busy", &counters.busy),
            ("malformed", &counters.malformed),
        ];
        for (outcome, count) in outcomes {
            let count = count.load(Ordering::Relaxed);
            parcels
                .encode_family(&Outcome { outcome })?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let help = "Events that this process has stored, each once.";
        let mut events = encoder.encode_descriptor("events", help, None, MetricType::Counter)?;
        events.encode_counter::<NoLabelSet, _, u64>(&counters.events.load(Ordering::Relaxed), None)?;
        let help = "Requests to gateways to send missing events again: asked, refused (by the gateway), unanswered (where it takes commands).";
        answers(&mut encoder, "resend_requests", help, "asked", &counters.resends)?;
        let help = "Commands to devices: accepted, refused (by the gateway), unanswered.";
        answers(&mut encoder, "commands", help, "accepted", &counters.commands)?;
        let help = "Time from the first statement of a batch of parcels to its commit.";
        let batch = &counters.batch_seconds;
        batch.encode(encoder.encode_descriptor(
            "batch",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?)?;
        self.gateways(&mut encoder)?;
        self.sources(&mut encoder)?;
        self.stores(&mut encoder)
    }
}

fn answers(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    taken: &'static str,
    answers: &Answers,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (outcome, count) in
        [(taken, &answers.taken), ("refused", &answers.refused), ("unanswered", &answers.unanswered)]
    {
        let count = count.load(Ordering::Relaxed);
        family.encode_family(&Outcome { outcome })?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    Ok(())
}

impl Metrics {
    /// Only stores that are configured.
    fn stores(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Value = fn(&Standing) -> f64;
        let gauges: [(&str, &str, Option<Unit>, Value); 4] = [
            (
                "store_lag_events",
                "Events of this process's gateways that are in PostgreSQL and not in the store.",
                None,
                |standing| standing.lag_events as f64,
            ),
            (
                "store_behind",
                "For how long the store has not had everything.",
                Some(Unit::Seconds),
                |standing| standing.behind_s,
            ),
            ("store_failing", "1 while the store is not written.", None, |standing| {
                f64::from(u8::from(standing.state == StoreState::Failing))
            }),
            (
                "store_reduced_documents",
                "Documents that this process has written without their content, since the store refused them, since its \
                 start.",
                None,
                |standing| standing.reduced as f64,
            ),
        ];
        let standings = STORES.map(|store| (store, self.app.board.of(store)));
        for (name, help, unit, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for (store, standing) in
                standings.iter().filter(|(_, standing)| standing.state != StoreState::Off)
            {
                family.encode_family(&OfStore { store })?.encode_gauge(&value(standing))?;
            }
        }
        Ok(())
    }

    fn sources(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Value = fn(&source::Standing) -> Option<u64>;
        let gauges: [(&str, &str, Value); 5] = [
            (
                "source_reading",
                "1 while this process reads the source; 0 also while another process does.",
                |standing| Some(u64::from(standing.state == source::State::Reading)),
            ),
            ("source_failing", "1 while this process cannot read the source, and tries again.", |standing| {
                Some(u64::from(standing.state == source::State::Failing))
            }),
            (
                "source_stopped_subjects",
                "Subjects of NATS that are this process's and that it does not take: their consumer is another database's, or \
                 their log is stopped.",
                |standing| Some(standing.stopped.len() as u64),
            ),
            (
                "source_lag_records",
                "Records of a topic of Kafka that this process has not read yet.",
                |standing| standing.lag_records,
            ),
            (
                "source_incomplete_parcels",
                "Parcels of a topic of Kafka of which some records have not come yet.",
                |standing| standing.incomplete,
            ),
        ];
        let standings = self.app.standings.all();
        for (name, help, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let values = standings.iter().filter_map(|(source, standing)| Some((source, value(standing)?)));
            for (source, value) in values {
                let of = OfSource { source: source.clone() };
                family.encode_family(&of)?.encode_gauge(&(value as f64))?;
            }
        }
        Ok(())
    }

    fn gateways(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Value = fn(&Gateway) -> f64;
        let gauges: [(&str, &str, Option<Unit>, Value); 6] = [
            (
                "gateway_lag_events",
                "Positions of the gateway's log that the tables lack and that are not lost.",
                None,
                |gateway| gateway.lag_events as f64,
            ),
            (
                "gateway_lag",
                "Time since the newest moment up to which nothing is missing that is not lost; 0 if nothing is.",
                Some(Unit::Seconds),
                |gateway| gateway.lag_s,
            ),
            (
                "gateway_newest_age",
                "Age of the newest event, by the gateway's log time.",
                Some(Unit::Seconds),
                |gateway| gateway.newest_age_s,
            ),
            (
                "gateway_gaps",
                "Ranges of positions that are missing before the newest one.",
                None,
                |gateway| gateway.gaps as f64,
            ),
            (
                "gateway_lost_gaps",
                "Missing ranges of positions that the gateway does not have any more either.",
                None,
                |gateway| gateway.lost as f64,
            ),
            (
                "gateway_forked",
                "1 while nothing is taken of the gateway's log, because two histories contradict each other.",
                None,
                |gateway| gateway.forked as f64,
            ),
        ];
        for (name, help, unit, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for gateway in &self.gateways {
                let of = Of { gateway: gateway.name.clone() };
                family.encode_family(&of)?.encode_gauge(&value(gateway))?;
            }
        }
        Ok(())
    }
}
