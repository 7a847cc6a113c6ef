-- A table as wal2json's table lists want it.
CREATE OR REPLACE FUNCTION realtime.quote_wal2json(entity regclass)
    RETURNS text
    LANGUAGE sql
    STABLE
    STRICT
AS $$
    SELECT realtime.wal2json_escape_identifier(n.nspname) || '.' || realtime.wal2json_escape_identifier(c.relname)
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = entity
$$;
