-- The to-do table of the demo. Safe to run again: it creates what is missing and leaves rows alone.
-- Needs the roles `anon`, `authenticated`, `service_role` and the function `auth.uid()`, which Rowcast installs.

create table if not exists public.todos (
  id         bigint generated always as identity primary key,
  owner      uuid        not null default auth.uid(),
  title      text        not null check (length(trim(title)) between 1 and 200),
  done       boolean     not null default false,
  shared     boolean     not null default false,
  created_at timestamptz not null default now()
);

-- With FULL, the old row is in the log too: the policies judge a deleted row as it was, so that its deletion is told to
-- those who could see it and to nobody else.
alter table public.todos replica identity full;

alter table public.todos enable row level security;

drop policy if exists "read own and shared" on public.todos;
create policy "read own and shared" on public.todos for select
  using (shared or owner = auth.uid());

drop policy if exists "add own" on public.todos;
create policy "add own" on public.todos for insert to authenticated
  with check (owner = auth.uid());

-- Everybody signed in may tick and rename a shared row; only its owner can make it private, because the row that
-- results must still be one the writer may touch.
drop policy if exists "change own and shared" on public.todos;
create policy "change own and shared" on public.todos for update to authenticated
  using (shared or owner = auth.uid())
  with check (shared or owner = auth.uid());

drop policy if exists "delete own" on public.todos;
create policy "delete own" on public.todos for delete to authenticated
  using (owner = auth.uid());

grant usage on schema public to anon, authenticated, service_role;
-- A Supabase database, and `rowcast dev` like it, grants everything on a new table; the owner column is not for writing.
revoke all on public.todos from anon, authenticated;
grant select on public.todos to anon;
grant select, insert, delete, update (title, done, shared) on public.todos to authenticated;
grant all on public.todos to service_role;

do $$
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
  if not exists (select from pg_publication_tables
                 where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'todos') then
    alter publication supabase_realtime add table public.todos;
  end if;
end $$;

-- A few rows to look at, once. Alice is a11ce…, Bob is b0b…; server.mjs signs their tokens with these ids.
insert into public.todos (owner, title, done, shared)
select owner::uuid, title, done, shared
from (values
  ('a11ce000-0000-4000-8000-000000000001', 'Plan the surprise party for Bob', false, false),
  ('a11ce000-0000-4000-8000-000000000001', 'Book the meeting room', true, true),
  ('b0b00000-0000-4000-8000-000000000002', 'Find out what Alice is up to', false, false),
  ('b0b00000-0000-4000-8000-000000000002', 'Bring the projector', false, true)
) as seed (owner, title, done, shared)
where not exists (select from public.todos);
