-- Whether the transaction with this id (32 bits, as the WAL carries it) has ended for those who look now. The WAL of a
-- commit can be read a moment before its rows can be seen; whoever acts on the one and reads the other has to wait.
create or replace function rowcast.is_visible(xid bigint)
returns boolean
language sql
volatile
as $$
    select pg_catalog.pg_visible_in_snapshot(
        (case
            when guess - latest > 2147483648 then guess - 4294967296
            when latest - guess > 2147483648 then guess + 4294967296
            else guess
        end)::text::pg_catalog.xid8,
        snapshot
    )
    from (
        select snapshot, latest, (latest >> 32 << 32) | $1 as guess
        from (
            select s as snapshot, pg_catalog.pg_snapshot_xmax(s)::text::bigint as latest
            from pg_catalog.pg_current_snapshot() as s
        ) as now
    ) as full_width
$$;
