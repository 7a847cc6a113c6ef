-- Where clients with a session id are, for the server that comes after. Not worth any WAL, of which the slot would have to read
-- every row: after a crash of the database, clients are told to look themselves. Rows are written again and again: those that
-- have room beside them take the new version without a look at the index.
CREATE UNLOGGED TABLE rowcast.places (
    id text PRIMARY KEY,
    place json NOT NULL,
    -- Of two that were written at once, the one that was noted later.
    version bigint NOT NULL DEFAULT 0,
    saved timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 60);
