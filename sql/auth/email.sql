-- By which address: the claim `email`. Set one by one (`request.jwt.claim.email`) it comes before the claims as a whole.
CREATE OR REPLACE FUNCTION auth.email()
    RETURNS text
    LANGUAGE sql
    STABLE
AS $$
    SELECT coalesce(
        nullif(pg_catalog.current_setting('request.jwt.claim.email', true), ''),
        nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
    )
$$;
