-- The first daily partitions of realtime.messages, from yesterday to three days from now (UTC), where the table is ours; a
-- running server keeps them from then on, there and elsewhere. Only where its owner is us or a superuser: what another owner
-- attached to the table could otherwise run with our rights. Looks before it alters, and uses messages_partition.sql.
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
        PERFORM pg_temp.rowcast_add_messages_partition(today + days);
    END LOOP;
    -- Those of earlier versions could be read by who names them and was granted that.
    FOR partition IN
        SELECT c.relname
          FROM pg_catalog.pg_inherits i
          JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE i.inhparent = pg_catalog.to_regclass('realtime.messages') AND NOT c.relrowsecurity
           AND n.nspname = 'realtime' AND c.relname ~ '^messages_\d{4}_\d\d_\d\d$'
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE realtime.%I ENABLE ROW LEVEL SECURITY', partition);
    END LOOP;
END
$$;
