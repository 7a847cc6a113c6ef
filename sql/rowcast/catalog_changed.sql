-- Tells the replication stream that the catalog changed, at most once per transaction: what a reader loads after the
-- commit has all of it. Never stands in the way of the command that fired it. Roles and their memberships belong to the
-- cluster and fire no event trigger.
CREATE OR REPLACE FUNCTION rowcast.catalog_changed()
    RETURNS event_trigger
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
AS $$
DECLARE
    transaction text;
BEGIN
    -- Changes nothing that a reader of rows or policies knows of, and may run every minute.
    IF tg_tag IN ('COMMENT', 'CREATE INDEX', 'REINDEX', 'REFRESH MATERIALIZED VIEW', 'SECURITY LABEL') THEN
        RETURN;
    END IF;
    IF tg_event = 'sql_drop' THEN
        -- What goes with a temporary table and has no schema of its own is not marked as temporary.
        IF NOT EXISTS (
            SELECT FROM pg_catalog.pg_event_trigger_dropped_objects()
             WHERE NOT is_temporary AND (original OR object_type NOT IN ('rule', 'trigger', 'default value'))
        ) THEN
            RETURN;
        END IF;
    -- Takes grants back without listing them. (REASSIGN OWNED fires nothing.)
    ELSIF tg_tag <> 'DROP OWNED' AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() WHERE schema_name IS DISTINCT FROM 'pg_temp'
    ) THEN
        RETURN;
    END IF;
    transaction := pg_catalog.pg_current_xact_id()::text;
    IF pg_catalog.current_setting('rowcast.catalog_changed', true) IS DISTINCT FROM transaction THEN
        -- Decoding merges subtransactions by position, and takes a message's end and a row's start: the row behind a
        -- message would stand at the same position, before or after it. The second one, which nobody reads, keeps them
        -- apart.
        PERFORM pg_catalog.pg_logical_emit_message(true, 'rowcast', 'catalog');
        PERFORM pg_catalog.pg_logical_emit_message(true, 'rowcast_apart', '');
        PERFORM pg_catalog.set_config('rowcast.catalog_changed', transaction, true);
    END IF;
EXCEPTION WHEN OTHERS THEN
    RETURN;
END
$$;
