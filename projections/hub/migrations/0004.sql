-- How far the topics of Kafka are stored, and which process reads them. All partitions of a topic are read by one process,
-- as the events of a parcel lie in several of them. `fence` grows each time another one takes over.
CREATE TABLE kafka_partitions (
    topic text NOT NULL,
    partition integer NOT NULL,
    holder text NOT NULL,
    fence bigint NOT NULL,
    -- Everything before this offset is in the tables.
    next bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
);
