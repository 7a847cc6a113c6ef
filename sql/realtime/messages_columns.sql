-- The columns that realtime.messages has had only since later, where it is ours and lacks them. Looks before it alters: an
-- ALTER TABLE that changes nothing would still lock the table and count as a change of the catalog.
DO $$
DECLARE
    missing text[];
BEGIN
    SELECT pg_catalog.array_agg(wanted.name) INTO missing
      FROM pg_catalog.unnest(ARRAY['skip_broadcast', 'expires_at', 'seq']) AS wanted(name)
      JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass('realtime.messages')
      JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
     WHERE pg_catalog.obj_description(c.oid, 'pg_class') LIKE 'rowcast:%'
       AND (o.rolname = CURRENT_USER OR o.rolsuper)
       AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attname = wanted.name AND NOT a.attisdropped
       );
    IF 'skip_broadcast' = ANY (missing) THEN
        ALTER TABLE realtime.messages ADD COLUMN skip_broadcast boolean;
    END IF;
    IF 'expires_at' = ANY (missing) THEN
        ALTER TABLE realtime.messages ADD COLUMN expires_at timestamp;
    END IF;
    IF 'seq' = ANY (missing) THEN
        -- In one step, it could not be added to a table that has partitions.
        ALTER TABLE realtime.messages ADD COLUMN seq bigint NOT NULL DEFAULT 0;
        ALTER TABLE realtime.messages ALTER COLUMN seq DROP DEFAULT;
        ALTER TABLE realtime.messages ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY;
    END IF;
END
$$;
