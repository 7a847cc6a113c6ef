-- Runs one query of rowcast.read_relations (see there) as a role; raises what the query raises.
--
-- As in rowcast.evaluate, a query that names what the role may not look up is tried once more as a prepared statement,
-- which is parsed by the caller, and planned, checked and run as the role.
create or replace function rowcast.read_relation(role text, query text, most bigint)
returns json
language plpgsql
as $$
declare
    found_rows json;
begin
    begin
        perform pg_catalog.set_config('role', $1, true);
        execute query into found_rows using most;
        perform pg_catalog.set_config('role', 'none', true);
        return found_rows;
    exception when insufficient_privilege then
        -- The role is the caller's again.
        null;
    end;
    if exists (select from pg_catalog.pg_prepared_statements where name = 'rowcast_read_relation') then
        deallocate rowcast_read_relation;
    end if;
    execute 'prepare rowcast_read_relation (pg_catalog.int8) as ' || query;
    perform pg_catalog.set_config('role', $1, true);
    execute 'execute rowcast_read_relation (' || most || ')' into found_rows;
    perform pg_catalog.set_config('role', 'none', true);
    deallocate rowcast_read_relation;
    return found_rows;
end
$$;

-- It runs whatever text it is given: only who may already do anything should call it.
revoke all on function rowcast.read_relation(text, text, bigint) from public;
