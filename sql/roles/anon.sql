-- Who a token with the role `anon` is: nobody in particular.
CREATE ROLE anon NOLOGIN NOINHERIT;

-- Policies are judged as this role, so whoever creates it must be able to become it.
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER) THEN
        GRANT anon TO CURRENT_USER;
    END IF;
END
$$;
