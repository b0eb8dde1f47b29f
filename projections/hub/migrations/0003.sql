-- Missing ranges about which something has been done: all of a log, as soon as one of them was asked for or is lost. `state`
-- is expected, asked or lost.
CREATE TABLE gaps (
    log integer NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    state text NOT NULL,
    -- Since when it has these bounds.
    since timestamptz NOT NULL,
    -- How many times the gateway was asked for it, and when last.
    asks integer NOT NULL,
    asked_at timestamptz,
    -- Why it is lost, or why the gateway does not send it.
    why text,
    PRIMARY KEY (log, first)
);

CREATE OR REPLACE VIEW gateway_lag AS
SELECT g.gateway, l.epoch, l.position, l.chain, l.newest, l.head,
    -- Positions that are not here and not lost. What is said to be lost may just have arrived.
    greatest(0, greatest(l.head - l.newest, 0) + (SELECT coalesce(sum((r ->> 1)::bigint - (r ->> 0)::bigint + 1), 0)
        FROM jsonb_array_elements(l.missing) r)::bigint
        - (SELECT coalesce(sum(x.last - x.first + 1), 0) FROM gaps x WHERE x.log = l.log AND x.state = 'lost')::bigint)
        AS lag_events,
    l.newest_time, extract(epoch FROM clock_timestamp() - l.newest_time) AS newest_age_s,
    l.missing, l.events, l.duplicates, l.faults, l.forked, l.last_seen, g.holder, g.fence,
    CASE WHEN EXISTS (SELECT FROM gaps x WHERE x.log = l.log) THEN
        (SELECT jsonb_agg(jsonb_build_object('first', x.first, 'last', x.last, 'state', x.state, 'since', x.since,
            'asks', x.asks, 'asked_at', x.asked_at, 'why', x.why) ORDER BY x.first) FROM gaps x WHERE x.log = l.log)
    ELSE
        (SELECT coalesce(jsonb_agg(jsonb_build_object('first', r -> 0, 'last', r -> 1, 'state', 'expected')), '[]')
        FROM jsonb_array_elements(l.missing) r)
    END AS gaps
FROM gateways g LEFT JOIN logs l USING (log);
