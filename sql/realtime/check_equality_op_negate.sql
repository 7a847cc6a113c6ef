-- Whether one condition holds, both sides read as the column's type. NULL where SQL says NULL.
CREATE OR REPLACE FUNCTION realtime.check_equality_op(
    op realtime.equality_op,
    type_ regtype,
    val_1 text,
    val_2 text,
    negate boolean
)
    RETURNS boolean
    LANGUAGE plpgsql
    STABLE
AS $$
DECLARE
    operators CONSTANT jsonb := '{
        "eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=",
        "like": "~~", "ilike": "~~*", "match": "~", "imatch": "~*", "isdistinct": "IS DISTINCT FROM"
    }';
    held boolean;
BEGIN
    IF op = 'is' THEN
        IF pg_catalog.lower(val_2) NOT IN ('null', 'true', 'false', 'unknown') THEN
            RAISE EXCEPTION 'invalid value for is filter: must be null, true, false, or unknown';
        END IF;
        EXECUTE pg_catalog.format('SELECT %L::%s IS %s', val_1, type_, pg_catalog.upper(val_2)) INTO held;
    ELSIF op = 'in' THEN
        EXECUTE pg_catalog.format('SELECT %L::%s = ANY (%L::%s[])', val_1, type_, val_2, type_) INTO held;
    ELSE
        EXECUTE pg_catalog.format('SELECT %L::%s %s %L::%s', val_1, type_, operators ->> op::text, val_2, type_)
           INTO held;
    END IF;
    RETURN CASE WHEN negate THEN NOT held ELSE held END;
END
$$;
