-- Where clients with a session id were when a server ended, for the one that comes after it. Not worth any WAL: after a crash of
-- the database, clients are told to look themselves.
CREATE UNLOGGED TABLE rowcast.places (
    id text PRIMARY KEY,
    place json NOT NULL,
    saved timestamptz NOT NULL DEFAULT now()
);
