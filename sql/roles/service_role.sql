-- Who a server's own token is: sees every row.
CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;

-- Policies are judged as this role, so whoever creates it must be able to become it.
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER) THEN
        GRANT service_role TO CURRENT_USER;
    END IF;
END
$$;
