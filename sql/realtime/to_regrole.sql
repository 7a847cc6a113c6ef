-- The role of a name. Declared immutable because a generated column needs it to be; a role that is renamed is not
-- noticed.
CREATE OR REPLACE FUNCTION realtime.to_regrole(role_name text)
    RETURNS regrole
    LANGUAGE sql
    IMMUTABLE
AS $$
    SELECT pg_catalog.quote_ident(role_name)::regrole
$$;
