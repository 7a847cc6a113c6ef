-- A name as wal2json's table lists want it: a backslash before backslash, comma, dot and white space.
CREATE OR REPLACE FUNCTION realtime.wal2json_escape_identifier(name text)
    RETURNS text
    LANGUAGE sql
    IMMUTABLE
    STRICT
AS $$
    SELECT pg_catalog.regexp_replace(name, '([\\,.[:space:]])', '\\\1', 'g')
$$;
