-- What goes out by broadcast from SQL, and what policies for private channels are written on. Partitioned by day, so
-- that old messages leave by dropping a table.
CREATE TABLE realtime.messages (
    topic text NOT NULL,
    extension text NOT NULL,
    payload jsonb,
    event text,
    private boolean DEFAULT false,
    updated_at timestamp NOT NULL DEFAULT pg_catalog.timezone('UTC', pg_catalog.now()),
    inserted_at timestamp NOT NULL DEFAULT pg_catalog.timezone('UTC', pg_catalog.now()),
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    binary_payload bytea,
    -- Kept, but not sent by the stream: it has been sent already.
    skip_broadcast boolean,
    -- Not replayed any more from then on (UTC); it goes with its partition.
    expires_at timestamp,
    -- Rows of one transaction share inserted_at, and their place in the table is not always the order they came in.
    seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (id, inserted_at),
    CONSTRAINT messages_one_payload CHECK (payload IS NULL OR binary_payload IS NULL)
) PARTITION BY RANGE (inserted_at);

CREATE INDEX messages_replay ON realtime.messages (topic, inserted_at DESC)
    WHERE extension = 'broadcast' AND private;

ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY;
