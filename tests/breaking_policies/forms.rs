//! Expressions of many forms, each held against Postgres.

use super::agrees;
use crate::support::version;

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_selects_counts() {
    agrees(
        "",
        &[
            // A row for each element: none of an empty array.
            "exists (select unnest(m.roles) from members m where m.team = notes.team and m.member = auth.uid())",
            "not exists (select unnest(m.roles) from members m where m.team = notes.team and m.member = auth.uid())",
            // Always one row.
            "exists (select count(*) from members m where m.team = notes.team and m.member = auth.uid())",
            "not exists (select max(m.team) from members m where m.team = notes.team and m.member = auth.uid())",
            // Of a column that may not be read.
            "exists (select m.secret from members m where m.team = notes.team and m.member = auth.uid())",
            "exists (select m.* from members m where m.team = notes.team and m.member = auth.uid())",
            "exists (select m.team, m.roles from members m where m.team = notes.team and m.member = auth.uid())",
            "exists (select 1 / 0 from members m where m.team = notes.team and m.member = auth.uid())",
            "exists (select notes.id from members m where m.team = notes.team and m.member = auth.uid())",
            "notes.team in (select unnest(array[m.team]) from members m where m.member = auth.uid() and m.team = notes.team)",
            "notes.id in (select count(*) from members m where m.team = notes.team and m.member = auth.uid())",
            "exists (select from members m where m.team = notes.team and m.member = auth.uid() group by m.team having count(*) > 1)",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_subquery_reads_of_the_claims_is_not_shared() {
    agrees(
        "create function teams_of(u uuid default auth.uid()) returns setof int language sql stable as
             'select team from members where member = u';
         create function in_team(t int, u uuid default auth.uid()) returns bool language sql stable as
             'select exists (select from members where member = u and team = t)';
         create function claim(name text) returns text language sql stable as
             $$ select current_setting('request.jwt.claim.' || name, true) $$;
         create table kinds (kind text primary key); insert into kinds values ('sub'), ('role');
         grant select on kinds to authenticated;",
        &[
            "team in (select teams_of())",
            "team in (select t.id from teams_of() t(id))",
            "exists (select from teams_of() t(id) where t.id = notes.team)",
            "in_team(team)",
            "team in (select m.team from members m where in_team(m.team))",
            "team in (select m.team from members m, kinds k where k.kind = 'sub' and m.member::text = claim(k.kind))",
            "team in (select m.team from members m, kinds k where k.kind = 'sub'
                 and m.member::text = current_setting('request.jwt.claim.' || k.kind, true))",
            "team in (select m.team from members m
                 where m.member::text = current_setting('request.jwt.claim.' || left(auth.role(), 0) || 'sub', true))",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_without_being_named_is_asked() {
    agrees(
        "create type mood as enum ('sad', 'ok');
         create function mood_number(m mood) returns int language sql stable as
             $$ select case m when 'sad'::mood then 1 when 'ok'::mood then 2 end $$;
         create cast (mood as int) with function mood_number(mood);
         create function upside_down(m mood) returns text language sql stable as
             $$ select case m::int when 1 then 'ok' when 2 then 'sad' end $$;
         create cast (mood as text) with function upside_down(mood) as assignment;
         alter table notes add column mood mood default 'sad';
         create function mine(text) returns uuid language sql stable as 'select auth.uid()';
         create cast (text as uuid) with function mine(text);
         create function even(int) returns bool language sql immutable as 'select $1 % 2 = 0';
         alter table members add column since date default '2020-01-01';
         grant select (since) on members to authenticated;",
        &[
            "mood::text = 'sad'",
            "mood::text = 'ok'",
            "(auth.jwt() ->> 'sub')::uuid = auth.uid()",
            "team in (select m.team from members m where m.member = kind::uuid)",
            "kind::uuid = auth.uid()",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_taken_at_their_word() {
    // One of them calls itself until the stack is full, which should not take long.
    agrees(
        "do $$ begin execute format('alter database %I set max_stack_depth = 300', current_database()); end $$;
         create function strict_true(int) returns bool language sql strict stable as 'select true';
         create function with_default(a int, b bool default true) returns bool language sql stable as 'select b or a = 1';
         create function over(a int) returns bool language sql stable as 'select a = 1';
         create function over(a bigint) returns bool language sql stable as 'select a = 2';
         create function over(a text) returns bool language sql stable as 'select a = ''3''';
         create function no_row(a int) returns bool language sql stable as 'select true from members where team = a and false';
         create function two_rows(a int) returns bool language sql stable as
             'select m.roles is null from members m where m.team >= a order by m.team desc, m.member limit 1';
         create function who() returns text language sql stable security definer as 'select current_user::text';
         create function who_in() returns text language sql stable as 'select current_user::text';
         create function who_deep() returns text language sql stable security definer as 'select who_in()';
         create function hidden(a int) returns bool language sql stable as 'select true';
         revoke execute on function hidden from public;
         create function hides(a int) returns bool language sql stable as 'select hidden(a)';
         create function hides_as_owner(a int) returns bool language sql stable security definer as 'select hidden(a)';
         create schema closed; create function closed.of(a int) returns bool language sql stable as 'select a = 1';
         create function enters(a int) returns bool language sql stable as 'select closed.of(a)';
         create function raises(a int) returns bool language sql stable as 'select 1 / (a - 1) > 0';
         create function raises_if(a int, b bool) returns bool language sql stable as 'select b';
         create function lower(text) returns text language sql stable as 'select ''sub''';
         create function volatile_true() returns bool language sql volatile as 'select true';
         create function many(variadic a int[]) returns bool language sql stable as 'select 1 = any (a)';
         create function named(uid uuid, t int) returns bool language sql stable as
             'select exists (select 1 from members m where m.member = uid and m.team = t)';
         create function ambiguous(team int) returns bool language sql stable as
             'select exists (select 1 from members where team = team and member = auth.uid())';
         create function rec(a int) returns bool language sql stable as 'select a > 3';
         create or replace function rec(a int) returns bool language sql stable as 'select case when a > 3 then true else rec(a + 1) end';
         create function set_off() returns bool language sql stable set row_security = on as 'select true';",
        &[
            "strict_true(team)",
            "with_default(team)",
            "with_default(team, false)",
            "with_default(a => team, b => false)",
            "over(team)",
            "over(team::bigint)",
            "over(team::text)",
            "no_row(team)",
            "no_row(team) is null",
            "two_rows(team)",
            "who() = 'authenticated'",
            "who_in() = 'authenticated'",
            "who_deep() = 'authenticated'",
            "hidden(team)",
            "team = 1 or hidden(team)",
            "false and hidden(team)",
            "case when true then team = 1 else hidden(team) end",
            "hides(team)",
            "hides_as_owner(team)",
            "closed.of(team)",
            "enters(team)",
            "team = 1 or raises(team)",
            "raises(team) or team = 2",
            "team = 2 and raises(team)",
            "raises_if(team, true) or 1 / (team - 1) > 0",
            "raises_if(1 / (id - 6), true)",
            "lower(kind) = 'sub'",
            "public.lower(kind) = 'sub'",
            "volatile_true() and team = 1",
            "many(team, 3)",
            "named(auth.uid(), team)",
            "named(t => team, uid => auth.uid())",
            "ambiguous(team)",
            "rec(team)",
            "set_off() and team = 1",
            "kind = 'sub' or exists (select from members m where m.secret = 'x')",
            "kind = 'sub' or team in (select m.team from members m where m.secret = 'x')",
            "kind = 'sub' or (select m.secret from members m limit 1) = 'x'",
            "team = (select m.team from members m where m.member = auth.uid())",
            "team = (select m.team from members m where m.member = auth.uid() and m.roles is null)",
            "team not in (select m.team from members m where m.member = auth.uid())",
            "team not in (select nullif(m.team, 1) from members m where m.member = auth.uid())",
            "id not in (select m.team from members m where m.team = notes.team)",
            "id in (select nullif(m.team, 2) from members m where m.team = notes.team)",
            "(team, kind) in (select m.team, 'sub'::text from members m)",
            "exists (select from members m where m.team = notes.team and m.team = notes.id)",
            "exists (select from members m, notes n where m.team = n.team and n.id = notes.id)",
            "exists (select from members m left join members o on o.team = m.team + 1 where o.team = notes.team and m.member = auth.uid())",
            "exists (select from members m left join members o on o.team = m.team + 1 where o.team is null and m.team = notes.team)",
            "exists (select from members m where m.team = notes.team offset 1)",
            "exists (select from members m where m.team = notes.team limit 0)",
            "exists (select distinct m.member from members m where m.team = notes.team)",
            "exists (select from members m where m.team = notes.team and exists (select from members o where o.team = m.team and o.member = auth.uid()))",
            "exists (select from members m where m.team = notes.team and exists (select from members o where o.team = notes.team and o.member = auth.uid()))",
            "'admin' = any (select unnest(m.roles) from members m where m.team = notes.team and m.member = auth.uid())",
            "'admin' = any ((select m.roles from members m where m.team = notes.team and m.member = auth.uid())::text[])",
            "array(select m.team from members m where m.member = auth.uid()) @> array[team]",
            "team in (select m.team from members m where m.member = auth.uid() union select 4)",
            "team in (select m.team from members m where m.member = auth.uid() except select 2)",
            "team in (with w as (select m.team from members m where m.member = auth.uid()) select w.team from w)",
            "team in (select x.team from (select m.team, m.member from members m) x where x.member = auth.uid())",
            "team in (select max(m.team) from members m where m.member = auth.uid())",
            "team in (select m.team from members m group by m.team having count(*) > 1)",
            "team in (select m.team from members m where m.member = (auth.jwt() ->> 'sub')::uuid)",
            "team in (select m.team from members m where m.member::text = auth.jwt() ->> 'sub')",
            "team in (select m.team from members m where m.team = (auth.jwt() ->> 'sub')::int)",
            "team in (select m.team from members m where current_user = 'authenticated')",
            "team in (select m.team from members m where m.team = any (array[1, 3]) and auth.role() = 'authenticated')",
            "team in (select m.team::bigint from members m where m.member = auth.uid())",
            "team::numeric in (select m.team from members m where m.member = auth.uid())",
            "kind in (select m.roles[1] from members m)",
            "kind::char(5) in (select 'sub  '::char(8))",
            "exists (select from members m where (m.team = notes.team) is not false and m.member = auth.uid())",
            "exists (select from members m where m.team = coalesce(notes.team, 4))",
            "exists (select from members m where m.team = notes.team + 1 and m.member = auth.uid())",
            "exists (select from members m where m.team = 10 / notes.team)",
            "exists (select from members m where m.team = notes.team and 1 / (m.team - 3) > 5)",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enums_and_numbers_are_looked_up_as_postgres_compares_them() {
    if !version::streams_generated() {
        return;
    }
    agrees(
        "create type size as enum ('s', 'm', 'l');
         alter table notes add column size size generated always as
             (case id when 1 then 's'::size when 2 then 'm'::size when 3 then 'l'::size end) stored,
           add column amount numeric generated always as (case id when 1 then 1.00 when 2 then 1 when 3 then 10.0 when 4 then -5e-30 end) stored,
           add column ratio float8 generated always as (case id when 1 then '-0'::float8 when 3 then 1e-320 when 4 then -1e308 end) stored,
           add column code char(4) generated always as (case id when 1 then 'a' when 2 then 'a ' when 3 then '' end) stored,
           add column at timestamptz generated always as (case id when 1 then 'infinity'::timestamptz when 3 then timestamptz '2020-01-01 00:00:00+00' end) stored;",
        &[
            "size = 'm'",
            "size > 's'",
            "size in ('s', 'l')",
            "size between 'm' and 'l'",
            "amount = 1.0",
            "amount in (1.000, 10)",
            "amount > 1",
            "amount = id",
            "ratio = 0",
            "ratio >= 0",
            "ratio < 1",
            "ratio = id",
            "code = 'a'",
            "code in ('a   ', '')",
            "code = kind",
            "code::text = 'a'",
            "at > '2019-12-31'::date",
            "at = '2020-01-01 00:00:00'::timestamp",
            "at >= '2020-01-01'",
            "at > now()",
            "at < 'infinity'",
            "id = 2.0",
            "id = 2.5::float8",
            "id > 2.5",
            "id::float4 between 1.5 and 3.5",
            "id = any (array[1, null, 3])",
            "id <> all (array[1, null, 3])",
            "id = any ('{}'::int[])",
            "not (id = any (array[2, 3]))",
            "id in (1, 2) and team in (2, 3)",
            "id = 1 or team = 2 or size = 'l'",
            "(id = 1 or team = 2) and size < 'l'",
            "id < 3 and id > 1 or id = 5",
            "id < 1 and id > 3",
            "kind = 'sub' is true",
            "(kind = 'sub') is not false",
            "kind is distinct from 'sub'",
            "nullif(kind, 'sub') is null",
            "coalesce(kind, 'role') = 'role'",
            "lower(kind) = 'sub'",
            "left(kind, 1) in ('s', 'r')",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_policies_are_survived() {
    let chain = |what: &str, by: &str, many: usize| {
        let terms: Vec<_> = (1..=many).map(|n| what.replace('#', &n.to_string())).collect();
        terms.join(by)
    };
    let list = chain("#", ",", 100_000);
    let nested = format!("{}team = 1{}", "not (not (".repeat(400), "))".repeat(400));
    let in_a_row = format!("team = {}1", "1 * ".repeat(3000));
    let policies = [
        chain("team = #", " or ", 3),
        chain("team = #", " or ", 990),
        chain("team = #", " or ", 10_000),
        format!("team in ({list})"),
        format!("team not in ({list})"),
        format!("team in (select m.team from members m where m.member = auth.uid() and m.team in ({list}))"),
        format!(
            "team in (select m.team from members m where m.member = auth.uid() and ({}))",
            chain("m.team <> # + 10", " and ", 990)
        ),
        format!(
            "team in (select m.team from members m where m.member = auth.uid() and (({}) = 1))",
            chain("(case when m.team = # then 1 else 0 end)", " + ", 900)
        ),
        chain(
            "team in (select m.team from members m where m.member = auth.uid() and m.team = #)",
            " or ",
            100,
        ),
        nested,
        in_a_row,
        format!("team = length({}'x'{})", "concat(".repeat(40), ")".repeat(40)),
    ];
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    agrees("", &policies).await;
}
