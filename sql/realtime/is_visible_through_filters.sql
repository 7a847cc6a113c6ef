-- Whether a row passes every condition; a column that the row does not carry passes none.
CREATE OR REPLACE FUNCTION realtime.is_visible_through_filters(
    columns realtime.wal_column[],
    filters realtime.user_defined_filter[]
)
    RETURNS boolean
    LANGUAGE sql
    STABLE
AS $$
    SELECT coalesce(pg_catalog.bool_and(coalesce(passed.it, false)), true)
      FROM pg_catalog.unnest(filters) AS f
      LEFT JOIN pg_catalog.unnest(columns) AS c ON c.name = f.column_name
     CROSS JOIN LATERAL (
           SELECT CASE WHEN c.name IS NOT NULL THEN
               realtime.check_equality_op(
                   f.op,
                   coalesce(c.type_oid::regtype, c.type_name::regtype),
                   c.value #>> '{}',
                   f.value,
                   coalesce(f.negate, false)
               )
           END
     ) AS passed(it)
$$;
