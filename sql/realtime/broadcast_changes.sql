-- Broadcasts one row change from a FOR EACH ROW trigger.
CREATE OR REPLACE FUNCTION realtime.broadcast_changes(
    topic_name text,
    event_name text,
    operation text,
    table_name text,
    table_schema text,
    new record,
    old record,
    level text DEFAULT 'ROW'
)
    RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    IF level = 'STATEMENT' THEN
        RAISE EXCEPTION 'realtime.broadcast_changes needs a row: declare the trigger FOR EACH ROW';
    END IF;
    IF operation IS NULL OR operation NOT IN ('INSERT', 'UPDATE', 'DELETE') THEN
        RAISE EXCEPTION 'realtime.broadcast_changes does not know the operation %: pass TG_OP', operation;
    END IF;
    PERFORM realtime.send(
        pg_catalog.jsonb_build_object(
            'schema', table_schema,
            'table', table_name,
            'operation', operation,
            'record', pg_catalog.to_jsonb(new),
            'old_record', pg_catalog.to_jsonb(old)
        ),
        event_name,
        topic_name
    );
END
$$;
