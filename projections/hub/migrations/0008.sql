-- The version of the agent that wrote a log last, and the position of the boot that said so.
ALTER TABLE logs ADD COLUMN agent_version text;
ALTER TABLE logs ADD COLUMN booted bigint NOT NULL DEFAULT 0;
UPDATE logs l SET agent_version = b.version, booted = b.seq
FROM (SELECT DISTINCT ON (log) log, seq, data ->> 'version' AS version FROM events
    WHERE device IS NULL AND type = 'booted' ORDER BY log, seq DESC) b
WHERE l.log = b.log;

CREATE OR REPLACE VIEW gateway_lag AS
SELECT g.gateway, l.epoch, l.position, l.chain, l.newest, l.head, n.lag_events,
    l.newest_time, extract(epoch FROM clock_timestamp() - l.newest_time) AS newest_age_s,
    l.missing, l.events, l.duplicates, l.faults, l.forked, l.last_seen, g.holder, g.fence, n.gaps,
    -- Nothing is missing that is older than this. The time of the statement is stable: who does not ask for the lag does not
    -- pay for looking events up.
    CASE WHEN n.lag_events = 0 THEN 0 ELSE greatest(0, extract(epoch FROM statement_timestamp() - CASE
        WHEN n.wanted IS NULL THEN l.newest_time
        ELSE coalesce(
            (SELECT e.recorded FROM events e WHERE e.log = l.log AND e.seq < n.wanted ORDER BY e.seq DESC LIMIT 1),
            (SELECT e.recorded FROM events e WHERE e.log = l.log AND e.seq > n.wanted ORDER BY e.seq LIMIT 1))
        END)) END AS lag_s,
    l.agent_version AS version
FROM gateways g LEFT JOIN logs l USING (log)
CROSS JOIN LATERAL (
    SELECT gaps,
        -- Positions that are not here and not lost. What is said to be lost may just have arrived.
        greatest(0, greatest(l.head - l.newest, 0) + (SELECT coalesce(sum((r ->> 1)::bigint - (r ->> 0)::bigint + 1), 0)
            FROM jsonb_array_elements(l.missing) r)::bigint
            - (SELECT coalesce(sum(x.last - x.first + 1), 0) FROM gaps x WHERE x.log = l.log AND x.state = 'lost')::bigint)
            AS lag_events,
        -- The first of them before `newest`.
        (SELECT min((gap ->> 'first')::bigint) FROM jsonb_array_elements(gaps) gap WHERE gap ->> 'state' <> 'lost') AS wanted
    FROM (SELECT CASE WHEN EXISTS (SELECT FROM gaps x WHERE x.log = l.log) THEN
            (SELECT jsonb_agg(jsonb_build_object('first', x.first, 'last', x.last, 'state', x.state, 'since', x.since,
                'asks', x.asks, 'asked_at', x.asked_at, 'why', x.why) ORDER BY x.first) FROM gaps x WHERE x.log = l.log)
        ELSE
            (SELECT coalesce(jsonb_agg(jsonb_build_object('first', r -> 0, 'last', r -> 1, 'state', 'expected')), '[]')
            FROM jsonb_array_elements(l.missing) r)
        END AS gaps) stated
) n;
