-- What a Supabase image's database gives to new objects in `public`: table privileges for every API role, so that
-- row-level security alone decides. Only objects that the superuser of the cluster creates from here on; a database
-- that is not ours is never given this.
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
