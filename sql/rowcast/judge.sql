-- Evaluates row-level policies and filters over row versions that came from the WAL, as the subscribers they are for.
--
-- queries   boolean queries made from catalog text; each takes ($1 rows, $2 row numbers, $3 filter values) and returns
--           the numbers of the rows it is true for
-- items     one object per class of subscribers and query: q (index into queries, from 1), role, claims (JSON text),
--           sub, email (text or null), topic, headers (JSON text), values (filter values), rows (row numbers, from 1)
-- rows      row versions, column name to text output form
-- after     transactions (32 bits) that wrote these rows: what policies read beside a row is read once they are visible
--
-- One result row per item, in order: the rows allowed, the rows that could not be judged and the last SQLSTATE met.
-- What raises for one item or one row harms no other; a statement timeout ends the whole call, and the caller asks
-- again piece by piece. Runs with the rights of its caller, who must be able to become each role.
create or replace function rowcast.judge(queries text[], items json, rows json[], after bigint[])
returns table (item int, allowed int[], failed int[], state text)
language plpgsql
as $$
declare
    question json;
    numbers int[];
    bound text[];
    number int;
    passed int[];
    writer bigint;
begin
    foreach writer in array after loop
        while not rowcast.is_visible(writer) loop
            perform pg_catalog.pg_sleep(0.0005);
        end loop;
    end loop;
    item := 0;
    for question in select value from pg_catalog.json_array_elements(items) loop
        numbers := array(select value::int from pg_catalog.json_array_elements_text(question -> 'rows'));
        bound := array(select value from pg_catalog.json_array_elements_text(question -> 'values'));
        allowed := '{}';
        failed := '{}';
        state := null;
        -- SET ROLE none would mean the caller itself.
        if question ->> 'role' is null or question ->> 'role' = 'none' then
            failed := numbers;
            state := '22023';
            return next;
            item := item + 1;
            continue;
        end if;
        perform pg_catalog.set_config('request.jwt.claims', question ->> 'claims', true),
                pg_catalog.set_config('request.jwt.claim.sub', coalesce(question ->> 'sub', ''), true),
                pg_catalog.set_config('request.jwt.claim.role', question ->> 'role', true),
                pg_catalog.set_config('request.jwt.claim.email', coalesce(question ->> 'email', ''), true),
                pg_catalog.set_config('realtime.topic', coalesce(question ->> 'topic', ''), true),
                pg_catalog.set_config('request.headers', coalesce(question ->> 'headers', '{}'), true);
        -- "others" leaves out failed assertions.
        begin
            allowed := rowcast.evaluate(question ->> 'role', queries[(question ->> 'q')::int], rows, numbers, bound);
        exception when others or assert_failure then
            get stacked diagnostics state = returned_sqlstate;
            allowed := '{}';
            if pg_catalog.cardinality(numbers) = 1 then
                failed := numbers;
            else
                foreach number in array numbers loop
                    begin
                        passed := rowcast.evaluate(
                            question ->> 'role', queries[(question ->> 'q')::int], rows, array[number], bound
                        );
                        allowed := allowed || passed;
                    exception when others or assert_failure then
                        get stacked diagnostics state = returned_sqlstate;
                        failed := failed || number;
                    end;
                end loop;
            end if;
        end;
        return next;
        item := item + 1;
    end loop;
end
$$;

-- It evaluates whatever text it is given: only who may already do anything should call it.
revoke all on function rowcast.judge(text[], json, json[], bigint[]) from public;
