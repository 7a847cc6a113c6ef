-- What a SELECT by each reader returns: rows seen, rows that it raises for, and the last SQLSTATE of those.
--
-- The planner looks at values to guess how many rows there will be, and raises where computing them raises, whatever
-- stands before them: `planned` is false where it is only that, not where a constant part of the expression raises.
-- `harmless` are claims that nothing of the kind raises for.
create schema if not exists oracle;

create or replace function oracle.become(reader json) returns void
language sql as $$
    select pg_catalog.set_config('request.jwt.claims', reader ->> 'claims', true),
           pg_catalog.set_config('request.jwt.claim.sub', coalesce(reader ->> 'sub', ''), true),
           pg_catalog.set_config('request.jwt.claim.role', reader ->> 'role', true),
           pg_catalog.set_config('request.jwt.claim.email', coalesce(reader ->> 'email', ''), true)
$$;

create or replace function oracle.raises(role text, query text) returns boolean
language plpgsql as $$
begin
    perform pg_catalog.set_config('role', role, true);
    execute query;
    perform pg_catalog.set_config('role', 'none', true);
    return false;
exception when others or assert_failure then
    return true;
end
$$;

create or replace function oracle.truth(target text, readers json, harmless json)
returns table (visible int[], raised int[], state text, planned boolean)
language plpgsql
as $$
declare
    reader json;
    number int;
    found int[];
    query text := 'select coalesce(pg_catalog.array_agg(id), ''{}'') from ' || target;
begin
    for reader in select value from pg_catalog.json_array_elements(readers) loop
        perform oracle.become(reader);
        raised := '{}';
        state := null;
        planned := true;
        begin
            perform pg_catalog.set_config('role', reader ->> 'role', true);
            execute query into visible;
            perform pg_catalog.set_config('role', 'none', true);
        exception when others or assert_failure then
            get stacked diagnostics state = returned_sqlstate;
            visible := '{}';
            -- Which row it was is found by leaving every other out, in a subtransaction that does not last.
            for number in execute 'select id from ' || target loop
                found := null;
                begin
                    execute 'delete from ' || target || ' where id <> ' || number;
                    begin
                        perform pg_catalog.set_config('role', reader ->> 'role', true);
                        execute query into found;
                    exception when others or assert_failure then
                        get stacked diagnostics state = returned_sqlstate;
                    end;
                    raise exception 'undone' using errcode = 'RC000';
                exception when sqlstate 'RC000' then
                    null;
                end;
                if found is null then
                    raised := raised || number;
                else
                    visible := visible || found;
                end if;
            end loop;
            if oracle.raises(reader ->> 'role', 'explain ' || query) then
                perform oracle.become(harmless);
                planned := oracle.raises('none', (
                    select 'explain select ' || pg_catalog.string_agg('(' || qual || ')', ', ') || ' from ' || target
                      from pg_catalog.pg_policies
                     where schemaname || '.' || tablename = target and exists (
                         select from pg_catalog.unnest(roles) as r(name)
                          where r.name = 'public' or pg_catalog.pg_has_role((reader ->> 'role')::name, r.name, 'usage')
                     )
                ));
            end if;
        end;
        return next;
    end loop;
end
$$;
