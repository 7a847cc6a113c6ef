-- Reads what the subqueries of policies return, as the subscribers they are for.
--
-- queries   queries made from catalog text; each takes ($1 most rows to read) and returns its rows as one JSON array of
--           arrays of text output forms, with null for NULL, or null for no rows at all
-- items     one object per relation: q (index into queries, from 1), reader (the role to read as), and what the settings
--           of its claims are made of: role, claims (JSON text), sub, email (text or null), topic, headers (JSON text)
-- most      one row more than this is read at the most, so that the caller can tell that there are more
-- after     transactions (32 bits) whose changes must be seen
--
-- One result row per item, in order: the rows; or a state: an SQLSTATE that the query raised, or 'role' where the
-- caller cannot become the reader. What raises for one item harms no other; a statement timeout ends the whole call,
-- and the caller asks again piece by piece. Runs with the rights of its caller, who must be able to become each role.
create or replace function rowcast.read_relations(queries text[], items json, most int, after bigint[])
returns table (item int, rows json, state text)
language plpgsql
as $$
declare
    asked json;
    writer bigint;
begin
    foreach writer in array after loop
        while not rowcast.is_visible(writer) loop
            perform pg_catalog.pg_sleep(0.0005);
        end loop;
    end loop;
    item := 0;
    for asked in select value from pg_catalog.json_array_elements(items) loop
        rows := null;
        state := null;
        -- "others" leaves out failed assertions.
        begin
            -- SET ROLE none would mean the caller itself.
            state := 'role';
            if asked ->> 'reader' <> 'none' then
                perform pg_catalog.set_config('role', asked ->> 'reader', true);
                perform pg_catalog.set_config('role', 'none', true);
                state := null;
                perform pg_catalog.set_config('request.jwt.claims', asked ->> 'claims', true),
                        pg_catalog.set_config('request.jwt.claim.sub', coalesce(asked ->> 'sub', ''), true),
                        pg_catalog.set_config('request.jwt.claim.role', asked ->> 'role', true),
                        pg_catalog.set_config('request.jwt.claim.email', coalesce(asked ->> 'email', ''), true),
                        pg_catalog.set_config('realtime.topic', coalesce(asked ->> 'topic', ''), true),
                        pg_catalog.set_config('request.headers', coalesce(asked ->> 'headers', '{}'), true);
                rows := rowcast.read_relation(asked ->> 'reader', queries[(asked ->> 'q')::int], most::bigint + 1);
            end if;
        exception when others or assert_failure then
            rows := null;
            if state is null then
                get stacked diagnostics state = returned_sqlstate;
            end if;
        end;
        return next;
        item := item + 1;
    end loop;
end
$$;

-- It runs whatever text it is given: only who may already do anything should call it.
revoke all on function rowcast.read_relations(text[], json, int, bigint[]) from public;
