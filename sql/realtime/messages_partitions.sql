-- The daily partitions of realtime.messages from yesterday to three days from now (UTC), where they are missing.
-- Only where the table is ours: Supabase's own has its partitions from elsewhere. And only where its owner is us or a
-- superuser: what another owner attached to the table would otherwise run with our rights.
DO $$
DECLARE
    today CONSTANT date := pg_catalog.timezone('UTC', pg_catalog.now())::date;
    partition text;
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
         WHERE c.oid = pg_catalog.to_regclass('realtime.messages')
           AND pg_catalog.obj_description(c.oid, 'pg_class') LIKE 'rowcast:%'
           AND (o.rolname = CURRENT_USER OR o.rolsuper)
    ) THEN
        RETURN;
    END IF;
    FOR days IN -1..3 LOOP
        partition := 'messages_' || pg_catalog.to_char(today + days, 'YYYY_MM_DD');
        IF pg_catalog.to_regclass('realtime.' || partition) IS NULL THEN
            EXECUTE pg_catalog.format(
                'CREATE TABLE realtime.%I PARTITION OF realtime.messages FOR VALUES FROM (%L) TO (%L)',
                partition, today + days, today + days + 1
            );
        END IF;
    END LOOP;
END
$$;
