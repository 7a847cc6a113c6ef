-- Enough of a user table for foreign keys and examples; an authentication service brings its own.
CREATE TABLE auth.users (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    email text UNIQUE,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
