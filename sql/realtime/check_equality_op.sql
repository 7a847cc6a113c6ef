-- As the other one, without negation.
CREATE OR REPLACE FUNCTION realtime.check_equality_op(
    op realtime.equality_op,
    type_ regtype,
    val_1 text,
    val_2 text
)
    RETURNS boolean
    LANGUAGE sql
    STABLE
AS $$
    SELECT realtime.check_equality_op(op, type_, val_1, val_2, false)
$$;
