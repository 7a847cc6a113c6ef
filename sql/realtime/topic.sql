-- The topic that is being authorised, for policies on realtime.messages.
CREATE OR REPLACE FUNCTION realtime.topic()
    RETURNS text
    LANGUAGE sql
    STABLE
AS $$
    SELECT nullif(pg_catalog.current_setting('realtime.topic', true), '')
$$;
