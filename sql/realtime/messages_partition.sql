-- Adds the partition of one day (UTC) to realtime.messages, where it is missing. A function for one transaction, made by the
-- role that the table belongs to.
--
-- What the owner attached to the table (functions in indexes, constraints, triggers) may run on the way, and must not get
-- at the rights of the session: within SECURITY DEFINER there is no way back to the session's own role, and nothing is left
-- to run behind it.
--
-- The partition is made beside the table and then attached: that waits for nobody who writes messages. Its rows are for
-- those who reach them through the table, whose policies hold there. For who names the partition itself, row-level security
-- without a policy lets nobody through, and what default privileges gave to those whom it binds is taken back.
CREATE OR REPLACE FUNCTION pg_temp.rowcast_add_messages_partition(day date)
    RETURNS void
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
AS $$
DECLARE
    partition CONSTANT text := 'messages_' || pg_catalog.to_char(day, 'YYYY_MM_DD');
    grantee text;
BEGIN
    -- One after the other: several servers may keep one database.
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('rowcast realtime.messages', 0));
    IF EXISTS (
        SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = pg_catalog.to_regclass('realtime.messages') AND c.relname = partition
    ) THEN
        RETURN;
    END IF;
    EXECUTE pg_catalog.format(
        'CREATE TABLE realtime.%I (LIKE realtime.messages INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)',
        partition
    );
    EXECUTE pg_catalog.format('ALTER TABLE realtime.%I ENABLE ROW LEVEL SECURITY', partition);
    FOR grantee IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END
          FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
          LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
         WHERE n.nspname = 'realtime' AND c.relname = partition AND a.grantee <> c.relowner
           AND NOT coalesce(r.rolsuper OR r.rolbypassrls, false)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON TABLE realtime.%I FROM %s', partition, grantee);
    END LOOP;
    EXECUTE pg_catalog.format(
        'ALTER TABLE realtime.messages ATTACH PARTITION realtime.%I FOR VALUES FROM (%L) TO (%L)',
        partition, day, day + 1
    );
    SET CONSTRAINTS ALL IMMEDIATE;
END
$$;
