-- Processes of the hub. One that does not renew its row in time has lost what it holds.
CREATE TABLE hubs (
    hub text PRIMARY KEY,
    name text NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires timestamptz NOT NULL
);

-- Gateways, and which process writes what they send. `fence` grows each time another one takes over.
CREATE TABLE gateways (
    gateway text PRIMARY KEY,
    holder text,
    fence bigint NOT NULL,
    -- The newest of its logs.
    log integer,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row for each epoch of a gateway's log. `account` says exactly which positions have arrived; it changes only
-- together with the rows of these positions, and only if `version` is still what the writer has read.
CREATE TABLE logs (
    log integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL REFERENCES gateways,
    epoch text NOT NULL,
    version bigint NOT NULL DEFAULT 0,
    account json NOT NULL,
    -- Nothing is missing up to here, and the chain there.
    position bigint NOT NULL DEFAULT 0,
    chain text,
    -- The newest position that has arrived, and the newest that the gateway has mentioned.
    newest bigint NOT NULL DEFAULT 0,
    head bigint NOT NULL DEFAULT 0,
    -- Missing ranges below `newest`, as [[first, last], …].
    missing jsonb NOT NULL DEFAULT '[]',
    events bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    faults jsonb NOT NULL DEFAULT '[]',
    -- Why nothing more is taken, once two histories have contradicted each other.
    forked text,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Log time of the newest event.
    newest_time timestamptz,
    UNIQUE (gateway, epoch)
);

-- Every event once. `recorded` is the gateway's log time, `time` the device's own time where it said one. `data` is the
-- text that was sent, except that U+FFFD stands for U+0000, which PostgreSQL cannot read.
CREATE TABLE events (
    log integer NOT NULL,
    seq bigint NOT NULL,
    recorded timestamptz NOT NULL,
    time timestamptz NOT NULL,
    type text NOT NULL,
    device text,
    data json NOT NULL,
    PRIMARY KEY (log, seq, recorded)
) PARTITION BY RANGE (recorded);
CREATE INDEX ON events (log, device, seq);
-- Days are made as they are needed; a clock that is far off must not make thousands of them.
CREATE TABLE events_other PARTITION OF events DEFAULT;

-- What is known of each device. Each group of columns has the position that it comes from, as parcels may overtake
-- each other.
CREATE TABLE devices (
    log integer NOT NULL,
    device text NOT NULL,
    -- The newest event about it, with its log time.
    seq bigint NOT NULL,
    changed timestamptz NOT NULL,
    -- Where it was found, and whether it was removed there.
    source text,
    parent text,
    retired boolean NOT NULL DEFAULT false,
    found_seq bigint NOT NULL DEFAULT 0,
    -- `online` or `offline`, as reported.
    availability text,
    availability_since timestamptz,
    availability_seq bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (log, device)
) WITH (fillfactor = 70);

-- How devices and their attributes are described, and by whom: `operator`, `announcement` or `discovery`. The attribute
-- is empty where it is the device that is described.
CREATE TABLE descriptions (
    log integer NOT NULL,
    device text NOT NULL,
    attribute text NOT NULL,
    said_by text NOT NULL,
    description jsonb NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (log, device, attribute, said_by)
);

-- Field by field, an operator's word comes before an announcement, and that before what was discovered.
CREATE VIEW merged_descriptions AS
SELECT d.log, d.device, d.attribute, jsonb_object_agg(f.key, f.value
    ORDER BY array_position(ARRAY['discovery', 'announcement', 'operator'], d.said_by)) AS description
FROM descriptions d CROSS JOIN jsonb_each(d.description) f
GROUP BY d.log, d.device, d.attribute;

-- The newest value of each attribute; JSON null for one that was removed. `number` has it if it is a number.
CREATE TABLE device_state (
    log integer NOT NULL,
    device text NOT NULL,
    attribute text NOT NULL,
    value jsonb NOT NULL,
    number double precision,
    seq bigint NOT NULL,
    changed timestamptz NOT NULL,
    PRIMARY KEY (log, device, attribute)
) WITH (fillfactor = 70);

-- Numbers by windows of log time of 60, 3,600 and 86,400 seconds.
CREATE TABLE aggregates (
    log integer NOT NULL,
    device text NOT NULL,
    attribute text NOT NULL,
    length_s integer NOT NULL,
    start timestamptz NOT NULL,
    count bigint NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    sum double precision NOT NULL,
    last double precision NOT NULL,
    last_seq bigint NOT NULL,
    PRIMARY KEY (log, device, attribute, length_s, start)
) WITH (fillfactor = 70);
CREATE INDEX ON aggregates (length_s, start);

-- Commands to devices, by the position of their request.
CREATE TABLE commands (
    log integer NOT NULL,
    command bigint NOT NULL,
    device text,
    -- What was asked for; null until the request has arrived.
    request json,
    requested timestamptz,
    -- The newest step, with its log time and content.
    state text NOT NULL,
    step json,
    seq bigint NOT NULL,
    changed timestamptz NOT NULL,
    PRIMARY KEY (log, command)
);

-- For Grafana and other readers: names in place of numbers, and the newest log of each gateway.
CREATE VIEW gateway_lag AS
SELECT g.gateway, l.epoch, l.position, l.chain, l.newest, l.head,
    -- Positions that are not here.
    greatest(l.head - l.newest, 0) + (SELECT coalesce(sum((r ->> 1)::bigint - (r ->> 0)::bigint + 1), 0)
        FROM jsonb_array_elements(l.missing) r)::bigint AS lag_events,
    l.newest_time, extract(epoch FROM clock_timestamp() - l.newest_time) AS newest_age_s,
    l.missing, l.events, l.duplicates, l.faults, l.forked, l.last_seen, g.holder, g.fence
FROM gateways g LEFT JOIN logs l USING (log);

CREATE VIEW current_devices AS
SELECT g.gateway, d.device, d.seq, d.changed, d.source, d.parent, d.retired, d.availability, d.availability_since,
    (SELECT m.description FROM merged_descriptions m
     WHERE m.log = d.log AND m.device = d.device AND m.attribute = '') AS description,
    (SELECT jsonb_object_agg(s.attribute, s.value) FROM device_state s
     WHERE s.log = d.log AND s.device = d.device AND s.value <> 'null') AS state
FROM gateways g JOIN devices d USING (log);

CREATE VIEW current_state AS
SELECT g.gateway, s.device, s.attribute, s.value, s.number, s.seq, s.changed, m.description
FROM gateways g JOIN device_state s USING (log)
LEFT JOIN merged_descriptions m USING (log, device, attribute) WHERE s.value <> 'null';

CREATE VIEW gateway_events AS
SELECT l.gateway, l.epoch, e.seq, e.recorded, e.time, e.type, e.device, e.data
FROM events e JOIN logs l USING (log);

-- A log that takes over another brings its records again, so of each window the newest log that has it counts.
CREATE VIEW gateway_aggregates AS
SELECT DISTINCT ON (l.gateway, a.device, a.attribute, a.length_s, a.start)
    l.gateway, a.device, a.attribute, a.length_s, a.start, a.count, a.min, a.max, a.sum / a.count AS mean, a.sum, a.last
FROM aggregates a JOIN logs l USING (log)
ORDER BY l.gateway, a.device, a.attribute, a.length_s, a.start, a.log DESC;
