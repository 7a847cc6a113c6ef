-- What subscriptions show of the to-dos, beside what the table's own policies say (schema.sql). Both must say yes.

create policy "everybody" on todos using (true);

-- A draft stays with its owner until it gets a proper title, also where it is shared.
create policy "no drafts of others" on todos as restrictive
  using (title not like 'draft:%' or owner = auth.uid());
