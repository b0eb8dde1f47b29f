-- The number under which an event has arrived, for each log from 1 on without a gap, in the order of the commits. Parcels
-- overtake each other, so whoever follows these tables remembers the arrival: a position would miss what comes late.
ALTER TABLE events ADD COLUMN arrival bigint;
UPDATE events e SET arrival = n.arrival
FROM (SELECT e.log, e.seq, e.recorded,
        l.events - count(*) OVER (PARTITION BY e.log) + row_number() OVER (PARTITION BY e.log ORDER BY e.seq) AS arrival
    FROM events e JOIN logs l USING (log)) n
WHERE e.log = n.log AND e.seq = n.seq AND e.recorded = n.recorded;
ALTER TABLE events ALTER COLUMN arrival SET NOT NULL;
CREATE INDEX ON events (log, arrival);

-- Stores that follow these tables. What was written for another generation is written anew.
CREATE TABLE stores (
    store text PRIMARY KEY,
    generation bigint NOT NULL DEFAULT 1
);
INSERT INTO stores (store) VALUES ('redis'), ('opensearch');
