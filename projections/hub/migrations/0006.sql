-- Tells this database from others that use the same servers: a consumer of NATS belongs to one of them.
CREATE TABLE identity (id uuid NOT NULL DEFAULT gen_random_uuid());
INSERT INTO identity DEFAULT VALUES;
