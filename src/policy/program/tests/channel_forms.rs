//! Policies on `realtime.messages` for [`super::channels`], and what they look into.

pub(super) const SCHEMA: &str = "
    create table rooms (name text primary key, owner uuid, open bool);
    create table room_members (room text, person uuid, writes bool, primary key (room, person));
    create table guarded_members (room text, person uuid, primary key (room, person));
    create table no_right_to (room text primary key);
    alter table guarded_members enable row level security;
    create policy mine on guarded_members using (person = auth.uid());
    create table of_room (name text primary key);
    alter table of_room enable row level security;
    create policy here on of_room using (name = realtime.topic());
    grant select on rooms, room_members, guarded_members, of_room to anon, authenticated;
    create function is_member(r text) returns bool language sql stable security definer as
        'select exists (select from guarded_members g where g.room = r and g.person = auth.uid())';
    create function is_here() returns bool language sql stable as
        'select exists (select from room_members m where m.room = realtime.topic() and m.person = auth.uid())';
    create function enters(r text) returns bool language plpgsql stable as
        $$ begin return r like 'room:%' and extract(epoch from now()) > 0; end $$;
    create function here() returns text language plpgsql stable as
        $$ begin return current_setting('realtime.topic', true); end $$;
    create function fails() returns bool language plpgsql stable as $$ begin raise 'no'; end $$;

    -- What becomes of a row of each reader: yes, no, or an SQLSTATE. Nothing stays.
    create function truth(items json) returns table (item int, reads text, writes text) language plpgsql as $$
    declare asked json; made uuid; seen int;
    begin
        item := 0;
        for asked in select value from json_array_elements(items) loop
            perform set_config('request.jwt.claims', asked ->> 'claims', true),
                    set_config('request.jwt.claim.sub', coalesce(asked ->> 'sub', ''), true),
                    set_config('request.jwt.claim.role', asked ->> 'role', true),
                    set_config('request.jwt.claim.email', coalesce((asked ->> 'claims')::json ->> 'email', ''), true),
                    set_config('realtime.topic', asked ->> 'topic', true),
                    set_config('request.headers', asked ->> 'headers', true);
            begin
                insert into realtime.messages (topic, extension, private)
                    values (asked ->> 'topic', asked ->> 'extension', true) returning id into made;
                perform set_config('role', asked ->> 'role', true);
                execute 'select count(*) from realtime.messages where id = $1' into seen using made;
                raise exception using errcode = 'RC001', message = case seen when 1 then 'yes' else 'no' end;
            exception when others or assert_failure then
                reads := case sqlstate when 'RC001' then sqlerrm else sqlstate end;
            end;
            begin
                perform set_config('role', asked ->> 'role', true);
                execute 'insert into realtime.messages (topic, extension, private) values ($1, $2, true)'
                    using asked ->> 'topic', asked ->> 'extension';
                raise exception using errcode = 'RC001', message = 'yes';
            exception when others or assert_failure then
                writes := case sqlstate when 'RC001' then sqlerrm else sqlstate end;
            end;
            return next;
            item := item + 1;
        end loop;
    end $$;";

/// How each must be judged: `c` in memory, `s` in memory with relations, `a` by asking (at least for some), `?` either
/// way. Each is tried as USING and as WITH CHECK.
pub(super) const FORMS: &[(char, &str)] = &[
    ('c', "true"),
    ('c', "false"),
    ('c', "realtime.topic() = 'room:1'"),
    ('c', "topic = 'room:1'"),
    ('c', "messages.topic <> 'room:1'"),
    ('c', "topic = realtime.topic()"),
    ('c', "(select realtime.topic()) = topic"),
    ('c', "(select realtime.topic()) in ('room:1', 'room:2')"),
    ('c', "realtime.topic() = 'user:' || auth.uid()::text"),
    (
        'c',
        "(select realtime.topic()) = 'user:' || (select auth.uid())::text and extension = 'broadcast'",
    ),
    ('c', "topic like 'room:%'"),
    (
        'c',
        "realtime.topic() like 'room:%' and extension in ('broadcast', 'presence')",
    ),
    ('c', r"realtime.topic() like 'a\_b%'"),
    ('c', "realtime.topic() not like '%:%'"),
    ('?', "realtime.topic() ilike 'ROOM:%'"),
    ('c', "realtime.topic() ~ '^room:[0-9]+$'"),
    ('c', "split_part(realtime.topic(), ':', 1) = 'user'"),
    ('c', "split_part(realtime.topic(), ':', 2) = auth.uid()::text"),
    ('c', "split_part(realtime.topic(), ':', 2)::uuid = auth.uid()"),
    ('c', "split_part(topic, ':', 2)::uuid = auth.uid()"),
    ('c', "realtime.topic()::uuid = auth.uid()"),
    (
        'c',
        "realtime.topic()::uuid is not null or extension = 'presence'",
    ),
    (
        'c',
        "extension = 'presence' or realtime.topic()::uuid is not null",
    ),
    ('c', "substring(topic from 6)::int = 1"),
    ('c', "1 / (length(realtime.topic()) - 6) < 1"),
    ('c', "extension = 'presence'"),
    ('c', "extension = any (array['broadcast', 'persistence'])"),
    (
        'c',
        "auth.jwt() ->> 'plan' = 'pro' and realtime.topic() = 'room:1'",
    ),
    (
        'c',
        "auth.jwt() -> 'teams' ? split_part(realtime.topic(), ':', 2)",
    ),
    (
        'c',
        "(auth.jwt() ->> 'team')::int = split_part(realtime.topic(), ':', 2)::int",
    ),
    ('c', "auth.role() = 'authenticated'"),
    ('c', "realtime.topic() is null"),
    ('c', "realtime.topic() is not null and auth.uid() is not null"),
    (
        'c',
        "payload is null and event is null and binary_payload is null",
    ),
    ('c', "private"),
    ('c', "not private or extension <> 'persistence'"),
    (
        'c',
        "id is not null and inserted_at is not null and updated_at <= inserted_at",
    ),
    ('c', "current_setting('realtime.topic') = 'room:1'"),
    ('c', "current_setting('realtime.topic', true) = topic"),
    ('c', "current_setting('Realtime.Topic', true) = ''"),
    (
        'c',
        "current_setting('request.headers', true)::json ->> 'x-api-key' = 'k1'",
    ),
    (
        'c',
        "(current_setting('request.headers', true)::jsonb ->> 'x-room') = realtime.topic()",
    ),
    (
        'c',
        "coalesce(current_setting('request.headers')::json ->> 'x-api-key', 'none') = 'none'",
    ),
    (
        'c',
        "case when realtime.topic() like 'user:%' then topic = 'user:' || auth.uid()::text else extension = 'broadcast' end",
    ),
    (
        's',
        "exists (select 1 from room_members m where m.room = realtime.topic() and m.person = auth.uid())",
    ),
    (
        's',
        "exists (select 1 from room_members m where m.person = (select auth.uid()) and m.room = (select realtime.topic()))",
    ),
    (
        's',
        "exists (select 1 from room_members m where m.room = messages.topic and m.person = auth.uid() and m.writes)",
    ),
    (
        's',
        "realtime.topic() in (select room from room_members where person = auth.uid())",
    ),
    ('s', "topic in (select room from guarded_members)"),
    (
        's',
        "exists (select from guarded_members g where g.room = realtime.topic())",
    ),
    ('s', "exists (select from of_room)"),
    ('s', "topic in (select name from of_room)"),
    (
        's',
        "exists (select from rooms r where r.name = realtime.topic() and (r.open or r.owner = auth.uid()))",
    ),
    (
        's',
        "(select writes from room_members where room = realtime.topic() and person = auth.uid())",
    ),
    (
        's',
        "(select count(*) from room_members where room = realtime.topic()) > 1 and extension = 'presence'",
    ),
    (
        's',
        "exists (select from rooms r where r.name = current_setting('request.headers', true)::json ->> 'x-room')",
    ),
    ('s', "is_member(realtime.topic())"),
    ('s', "is_member(topic) and extension <> 'presence'"),
    ('s', "is_here()"),
    ('s', "auth.role() = 'anon' or is_here()"),
    ('?', "exists (select from no_right_to)"),
    (
        '?',
        "exists (select from realtime.messages m where m.topic = 'x')",
    ),
    ('a', "enters(realtime.topic())"),
    ('a', "extension = 'presence' or enters(topic)"),
    ('a', "here() = topic"),
    ('a', "fails()"),
    ('a', "current_setting('app.tenant', true) = topic"),
];

/// Policies together, as they are written.
pub(super) const TOGETHER: &[&str] = &[
    "",
    "for all using (topic like 'room:%')",
    "for all using (topic like 'room:%') with check (extension = 'broadcast')",
    "for all with check (extension = 'broadcast')",
    "for insert with check (true)",
    "for select using (true)",
    "for update using (true); for delete using (true)",
    // Neither allows nor restricts.
    "for insert",
    "for insert; for insert with check (extension = 'presence')",
    "for all",
    "for all; for select using (topic = 'room:2')",
    "as restrictive for all; for all using (true)",
    "as restrictive for insert; for all using (true)",
    "as restrictive for all using (true)",
    "for all using (true); as restrictive for all using (extension <> 'presence')",
    "for all using (true); as restrictive for insert with check (extension <> 'presence')",
    "for all using (true); as restrictive for all to anon using (false)",
    "for all using (true); as restrictive for all to authenticated using (topic <> 'room:1') with check (false)",
    "for all to anon using (true)",
    "for all to authenticated using (auth.uid() is not null) with check (extension = 'broadcast')",
    "for select to anon, authenticated using (is_here()); for insert to authenticated with check (is_here())",
    "for select using (topic = realtime.topic()); \
     for insert with check (exists (select from realtime.messages m where m.topic = messages.topic))",
    "for insert with check (exists (select from realtime.messages m where m.extension = messages.extension))",
    // The last one is asked first, and what it raises is seen.
    "for all using (true); for all using (1 / (length(topic) - 6) = 0)",
    "for all using (1 / (length(topic) - 6) = 0); for all using (true)",
    "for all using (fails()); for all using (extension = 'presence')",
    "for all using (true); as restrictive for all using (topic::uuid is not null)",
    "for all using (extension = 'broadcast'); as restrictive for all using (topic::uuid is not null)",
];
