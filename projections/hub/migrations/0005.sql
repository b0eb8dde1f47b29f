-- What search looks through. Whatever ASCII has beside letters and digits is between words: `hall/lamp-2` has three. What
-- else a word is, PostgreSQL's parser decides, for a search as for these texts.
CREATE FUNCTION words_of(text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT to_tsvector('pg_catalog.simple'::regconfig,
        translate(left($1, 10000), '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', '                                '))
$$;

-- Devices, with their ids and what is said of them.
CREATE TABLE device_texts (
    log integer NOT NULL,
    device text NOT NULL,
    text text NOT NULL,
    words tsvector NOT NULL GENERATED ALWAYS AS (words_of(text)) STORED,
    PRIMARY KEY (log, device)
);
CREATE INDEX device_texts_words ON device_texts USING gin (words);

-- Messages that gateways could not read, and why.
CREATE TABLE quarantined (
    log integer NOT NULL,
    seq bigint NOT NULL,
    recorded timestamptz NOT NULL,
    text text NOT NULL,
    words tsvector NOT NULL GENERATED ALWAYS AS (words_of(text)) STORED,
    PRIMARY KEY (log, seq)
);
CREATE INDEX quarantined_words ON quarantined USING gin (words);

CREATE FUNCTION device_text(log integer, device text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(' · ', $2, d.description ->> 'name', d.description ->> 'area', d.description ->> 'manufacturer',
        d.description ->> 'model')
    FROM (SELECT (SELECT m.description FROM merged_descriptions m
        WHERE m.log = $1 AND m.device = $2 AND m.attribute = '') AS description) d
$$;

-- Triggers, so that what changes with each event costs nothing: a device has a text from its first row on, and a new one
-- with each description of it. The latter runs once for a statement, however many descriptions that writes.
CREATE FUNCTION note_device() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO device_texts (log, device, text) VALUES (NEW.log, NEW.device, NEW.device) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER note_device AFTER INSERT ON devices FOR EACH ROW EXECUTE FUNCTION note_device();

CREATE FUNCTION note_descriptions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO device_texts AS t (log, device, text)
    SELECT d.log, d.device, device_text(d.log, d.device)
    FROM (SELECT DISTINCT c.log, c.device FROM written c WHERE c.attribute = '') d
    ON CONFLICT (log, device) DO UPDATE SET text = excluded.text WHERE t.text <> excluded.text;
    RETURN NULL;
END $$;
CREATE TRIGGER note_new_descriptions AFTER INSERT ON descriptions
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION note_descriptions();
CREATE TRIGGER note_changed_descriptions AFTER UPDATE ON descriptions
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION note_descriptions();

-- What is there already, however long that takes.
SET LOCAL statement_timeout TO 0;
INSERT INTO device_texts (log, device, text)
SELECT d.log, d.device, device_text(d.log, d.device)
FROM (SELECT log, device FROM devices UNION SELECT log, device FROM descriptions WHERE attribute = '') d;
INSERT INTO quarantined (log, seq, recorded, text)
SELECT log, seq, recorded, concat_ws(' · ', data ->> 'source', data ->> 'topic', data ->> 'reason')
FROM events WHERE type IN ('input_quarantined', 'quarantine_summarised')
ON CONFLICT DO NOTHING;
