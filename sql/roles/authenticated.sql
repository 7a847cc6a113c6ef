-- Who a token of a signed-in user is.
CREATE ROLE authenticated NOLOGIN NOINHERIT;

-- Policies are judged as this role, so whoever creates it must be able to become it.
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER) THEN
        GRANT authenticated TO CURRENT_USER;
    END IF;
END
$$;
