-- One condition of a subscription's filter.
CREATE TYPE realtime.user_defined_filter AS (
    column_name text,
    op realtime.equality_op,
    value text,
    negate boolean
);
