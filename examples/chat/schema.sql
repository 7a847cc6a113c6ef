-- The chat of the demo. Safe to run again: it creates what is missing and leaves rows alone.
-- Needs the roles `authenticated` and `service_role`, `auth.uid()`, and `realtime.messages` with `realtime.topic()`,
-- `realtime.send` and `realtime.broadcast_changes`, all of which Rowcast installs.
--
-- Channels, and how something gets onto them:
--
--   feed                 rows of messages, members and rooms, under the policies of these tables
--   lobby                presence of everybody signed in
--   room:<id>            typing and cursors in a room, from its members to its members, and when somebody comes or leaves
--   dm:<a>:<b>           what one of two people wrote to the other: only this file writes there, only they read
--   dm:<a>:<b>:typing    that one of them is typing
--   user:<id>            notifications: only this file writes there, only that person reads
--
-- What comes from the database has a channel of its own that nobody else may write to. Were the two mixed, everybody in
-- a conversation could put words into the mouths of the others.

create schema if not exists chat;
grant usage on schema chat to authenticated, service_role;

-- --- tables ---------------------------------------------------------------------------------------------------------

create table if not exists chat.people (
  id   uuid primary key,
  -- Letters only: names are looked for in what is written, and a name with a `*` would be a pattern.
  name text not null unique check (name ~ '^[A-Za-z]{2,20}$')
);

create table if not exists chat.rooms (
  id         bigint generated always as identity primary key,
  name       text        not null check (length(trim(name)) between 1 and 40),
  private    boolean     not null default false,
  founder    uuid        not null default auth.uid() references chat.people,
  created_at timestamptz not null default now()
);

create table if not exists chat.members (
  room      bigint      not null references chat.rooms on delete cascade,
  person    uuid        not null default auth.uid() references chat.people,
  joined_at timestamptz not null default now(),
  primary key (room, person)
);

create table if not exists chat.messages (
  id      bigint generated always as identity primary key,
  room    bigint      not null references chat.rooms on delete cascade,
  sender  uuid        not null default auth.uid() references chat.people,
  body    text        not null check (length(trim(body)) between 1 and 2000),
  sent_at timestamptz not null default now()
);
create index if not exists messages_of_a_room on chat.messages (room, id desc);

-- From one person to another.
create table if not exists chat.directs (
  id        bigint generated always as identity primary key,
  sender    uuid        not null default auth.uid() references chat.people,
  recipient uuid        not null references chat.people check (recipient <> sender),
  body      text        not null check (length(trim(body)) between 1 and 2000),
  sent_at   timestamptz not null default now()
);
create index if not exists directs_of_two on chat.directs (least(sender, recipient), greatest(sender, recipient), id desc);

create table if not exists chat.notifications (
  id         bigint generated always as identity primary key,
  person     uuid        not null references chat.people,
  kind       text        not null check (kind in ('mention', 'direct')),
  sender     uuid        not null references chat.people,
  room       bigint      references chat.rooms on delete cascade,
  excerpt    text        not null,
  read       boolean     not null default false,
  created_at timestamptz not null default now()
);
create index if not exists notifications_of_a_person on chat.notifications (person, id desc);

-- With FULL, the old row is in the log too: that somebody left a room is told to those who could see the membership.
alter table chat.members replica identity full;

-- --- who may do what with rows ---------------------------------------------------------------------------------------

alter table chat.people enable row level security;
alter table chat.rooms enable row level security;
alter table chat.members enable row level security;
alter table chat.messages enable row level security;
alter table chat.directs enable row level security;
alter table chat.notifications enable row level security;

drop policy if exists "everybody signed in" on chat.people;
create policy "everybody signed in" on chat.people for select to authenticated using (true);

drop policy if exists "public ones, and those one is in" on chat.rooms;
create policy "public ones, and those one is in" on chat.rooms for select to authenticated
  using (not private or founder = auth.uid() or id in (select room from chat.members where person = auth.uid()));

drop policy if exists "found one" on chat.rooms;
create policy "found one" on chat.rooms for insert to authenticated with check (founder = auth.uid());

-- Only one's own: other policies ask this table "am I in it?", and a policy that asks its own table would not end.
drop policy if exists "one's own" on chat.members;
create policy "one's own" on chat.members for select to authenticated using (person = auth.uid());

drop policy if exists "join what is public" on chat.members;
create policy "join what is public" on chat.members for insert to authenticated
  with check (person = auth.uid() and room in (select id from chat.rooms where not private));

drop policy if exists "bring somebody along" on chat.members;
create policy "bring somebody along" on chat.members for insert to authenticated
  with check (room in (select mine.room from chat.members mine where mine.person = auth.uid()));

drop policy if exists "leave" on chat.members;
create policy "leave" on chat.members for delete to authenticated using (person = auth.uid());

drop policy if exists "members read" on chat.messages;
create policy "members read" on chat.messages for select to authenticated
  using (room in (select room from chat.members where person = auth.uid()));

drop policy if exists "members write" on chat.messages;
create policy "members write" on chat.messages for insert to authenticated
  with check (sender = auth.uid() and room in (select room from chat.members where person = auth.uid()));

drop policy if exists "the two of them" on chat.directs;
create policy "the two of them" on chat.directs for select to authenticated
  using (auth.uid() in (sender, recipient));

drop policy if exists "in one's own name" on chat.directs;
create policy "in one's own name" on chat.directs for insert to authenticated with check (sender = auth.uid());

drop policy if exists "one's own" on chat.notifications;
create policy "one's own" on chat.notifications for select to authenticated using (person = auth.uid());

drop policy if exists "mark as read" on chat.notifications;
create policy "mark as read" on chat.notifications for update to authenticated using (person = auth.uid());

revoke all on all tables in schema chat from anon, authenticated;
grant select on all tables in schema chat to authenticated;
grant insert (name, private) on chat.rooms to authenticated;
grant insert (room, person), delete on chat.members to authenticated;
grant insert (room, body) on chat.messages to authenticated;
grant insert (recipient, body) on chat.directs to authenticated;
grant update (read) on chat.notifications to authenticated;
grant all on all tables in schema chat to service_role;

-- Who is in a room is for those who are in it.
create or replace function chat.members_of(of_room bigint)
  returns setof uuid language sql stable security definer set search_path = ''
as $$
  select person from chat.members
  where room = of_room
    and exists (select from chat.members mine where mine.room = of_room and mine.person = auth.uid())
$$;

-- --- who may do what on channels -------------------------------------------------------------------------------------

drop policy if exists "chat: see who is in the lobby" on realtime.messages;
create policy "chat: see who is in the lobby" on realtime.messages for select to authenticated
  using (extension = 'presence' and realtime.topic() = 'lobby');

drop policy if exists "chat: be in the lobby" on realtime.messages;
create policy "chat: be in the lobby" on realtime.messages for insert to authenticated
  with check (extension = 'presence' and realtime.topic() = 'lobby');

drop policy if exists "chat: hear one's rooms" on realtime.messages;
create policy "chat: hear one's rooms" on realtime.messages for select to authenticated
  using (extension = 'broadcast'
    and realtime.topic() in (select 'room:' || room from chat.members where person = auth.uid()));

drop policy if exists "chat: speak in one's rooms" on realtime.messages;
create policy "chat: speak in one's rooms" on realtime.messages for insert to authenticated
  with check (extension = 'broadcast'
    and realtime.topic() in (select 'room:' || room from chat.members where person = auth.uid()));

drop policy if exists "chat: hear what is between two" on realtime.messages;
create policy "chat: hear what is between two" on realtime.messages for select to authenticated
  using (extension = 'broadcast' and split_part(realtime.topic(), ':', 1) = 'dm'
    and auth.uid()::text in (split_part(realtime.topic(), ':', 2), split_part(realtime.topic(), ':', 3)));

drop policy if exists "chat: type to somebody" on realtime.messages;
create policy "chat: type to somebody" on realtime.messages for insert to authenticated
  with check (extension = 'broadcast' and split_part(realtime.topic(), ':', 1) = 'dm'
    and split_part(realtime.topic(), ':', 4) = 'typing'
    and auth.uid()::text in (split_part(realtime.topic(), ':', 2), split_part(realtime.topic(), ':', 3)));

drop policy if exists "chat: one's own notifications" on realtime.messages;
create policy "chat: one's own notifications" on realtime.messages for select to authenticated
  using (extension = 'broadcast' and realtime.topic() = 'user:' || auth.uid());

-- --- a few people, rooms and words, once, before anybody is told of them -----------------------------------------------

-- The ids are those of users.js, for which the backend signs tokens.
insert into chat.people (id, name) values
  ('a11ce000-0000-4000-8000-000000000001', 'Alice'),
  ('b0b00000-0000-4000-8000-000000000002', 'Bob'),
  ('c1e00000-0000-4000-8000-000000000003', 'Cleo'),
  ('dede0000-0000-4000-8000-000000000004', 'Dede')
on conflict do nothing;

with founded as (
  insert into chat.rooms (name, private, founder)
  select name, private, founder::uuid
  from (values
    ('Kitchen table', false, 'a11ce000-0000-4000-8000-000000000001'),
    ('Release day', false, 'b0b00000-0000-4000-8000-000000000002'),
    ('Surprise for Bob', true, 'a11ce000-0000-4000-8000-000000000001')
  ) as seed (name, private, founder)
  where not exists (select from chat.rooms)
  returning id, name
), joined as (
  insert into chat.members (room, person)
  select founded.id, people.id from founded, chat.people
  where founded.name = 'Kitchen table'
     or founded.name = 'Release day' and people.name in ('Alice', 'Bob')
     or founded.name = 'Surprise for Bob' and people.name in ('Alice', 'Cleo')
)
insert into chat.messages (room, sender, body, sent_at)
select founded.id, people.id, body, now() - ago
from (values
  ('Kitchen table', 'Alice', 'Morning! Who is making coffee?', interval '3 hours'),
  ('Kitchen table', 'Dede', 'Already on it. The good beans, too.', interval '175 minutes'),
  ('Kitchen table', 'Bob', 'You are my favourite person today.', interval '174 minutes'),
  ('Release day', 'Bob', 'Build is green. Shall we tag it after lunch?', interval '90 minutes'),
  ('Release day', 'Alice', 'After lunch. Never before lunch.', interval '88 minutes'),
  ('Surprise for Bob', 'Alice', 'Not a word to Bob: cake on Friday, four o’clock.', interval '1 day'),
  ('Surprise for Bob', 'Cleo', 'I bring candles. He can read none of this, can he?', interval '23 hours')
) as seed (room, sender, body, ago)
join founded on founded.name = seed.room
join chat.people on people.name = seed.sender
order by ago desc;

-- --- what the database tells by itself ---------------------------------------------------------------------------------

-- Who founds a room is in it.
create or replace function chat.room_founded()
  returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  insert into chat.members (room, person) values (new.id, new.founder);
  return null;
end
$$;
create or replace trigger room_founded after insert on chat.rooms
  for each row execute function chat.room_founded();

-- That somebody came or left, not who: what is on this channel may have been said by any member, so it is only a reason
-- to look into the table.
create or replace function chat.membership_changed()
  returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  perform realtime.send('{}', 'members', 'room:' || coalesce(new.room, old.room));
  return null;
end
$$;
create or replace trigger membership_changed after insert or delete on chat.members
  for each row execute function chat.membership_changed();

-- `@Name` notifies the person, if they are in the room.
create or replace function chat.message_sent()
  returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  insert into chat.notifications (person, kind, sender, room, excerpt)
  select people.id, 'mention', new.sender, new.room, left(new.body, 120)
  from chat.people join chat.members on members.person = people.id and members.room = new.room
  where people.id <> new.sender and new.body ~* ('@' || people.name || '\y');
  return null;
end
$$;
create or replace trigger message_sent after insert on chat.messages
  for each row execute function chat.message_sent();

-- The row itself goes to the two of them, and a notification to the one it is for.
create or replace function chat.direct_sent()
  returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  perform realtime.broadcast_changes(
    'dm:' || least(new.sender, new.recipient) || ':' || greatest(new.sender, new.recipient),
    'message', tg_op, tg_table_name, tg_table_schema, new, old);
  insert into chat.notifications (person, kind, sender, excerpt)
  values (new.recipient, 'direct', new.sender, left(new.body, 120));
  return null;
end
$$;
create or replace trigger direct_sent after insert on chat.directs
  for each row execute function chat.direct_sent();

-- Also when they have been read, so that a person's other tabs agree.
create or replace function chat.notification_changed()
  returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  perform realtime.send(to_jsonb(new), case tg_op when 'INSERT' then 'new' else 'read' end, 'user:' || new.person);
  return null;
end
$$;
create or replace trigger notification_changed after insert or update on chat.notifications
  for each row execute function chat.notification_changed();

do $$
declare
  followed text;
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
  foreach followed in array array['rooms', 'members', 'messages'] loop
    if not exists (select from pg_publication_tables
                   where pubname = 'supabase_realtime' and schemaname = 'chat' and tablename = followed) then
      execute format('alter publication supabase_realtime add table chat.%I', followed);
    end if;
  end loop;
end $$;
