-- Evaluates one query of rowcast.judge (see there) as a role; raises what the query raises.
--
-- The names in a policy were looked up when it was made, by its maker: functions and tables in a schema that the role
-- may not enter are common. The query is text and has its names looked up by the role, so what is refused is tried once
-- more as a prepared statement: that is parsed by the caller, and planned, checked and run as the role. (Not where it
-- reads a table under row-level security beside such a schema: Postgres then parses it again, as the role.)
create or replace function rowcast.evaluate(role text, query text, rows json[], numbers int[], bound text[])
returns int[]
language plpgsql
as $$
declare
    passed int[];
begin
    begin
        perform pg_catalog.set_config('role', $1, true);
        execute query into passed using rows, numbers, bound;
        perform pg_catalog.set_config('role', 'none', true);
        return passed;
    exception when insufficient_privilege then
        -- The role is the caller's again.
        null;
    end;
    if exists (select from pg_catalog.pg_prepared_statements where name = 'rowcast_evaluate') then
        deallocate rowcast_evaluate;
    end if;
    execute 'prepare rowcast_evaluate (json[], int[], text[]) as ' || query;
    -- EXECUTE takes no parameters from here, and values must not be part of a statement that may be logged.
    perform pg_catalog.set_config('rowcast.rows', rows::text, true),
            pg_catalog.set_config('rowcast.numbers', numbers::text, true),
            pg_catalog.set_config('rowcast.bound', bound::text, true),
            pg_catalog.set_config('role', $1, true);
    execute 'execute rowcast_evaluate (
                 pg_catalog.current_setting(''rowcast.rows'')::pg_catalog.json[],
                 pg_catalog.current_setting(''rowcast.numbers'')::pg_catalog.int4[],
                 pg_catalog.current_setting(''rowcast.bound'')::pg_catalog.text[])' into passed;
    perform pg_catalog.set_config('rowcast.rows', '', true),
            pg_catalog.set_config('rowcast.bound', '', true),
            pg_catalog.set_config('role', 'none', true);
    deallocate rowcast_evaluate;
    return passed;
end
$$;

-- It evaluates whatever text it is given: only who may already do anything should call it.
revoke all on function rowcast.evaluate(text, text, json[], int[], text[]) from public;
