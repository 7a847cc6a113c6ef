-- Refuses a subscription that could not be served, and puts its conditions and columns in order so that equal ones
-- are equal.
CREATE OR REPLACE FUNCTION realtime.subscription_check_filters()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    -- claims_role is generated after this trigger has run.
    reader CONSTANT regrole := realtime.to_regrole(new.claims ->> 'role');
    readable CONSTANT jsonb := (
        SELECT coalesce(pg_catalog.jsonb_object_agg(a.attname, a.atttypid::bigint), '{}')
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = new.entity AND a.attnum > 0 AND NOT a.attisdropped
           AND pg_catalog.has_column_privilege(reader, new.entity, a.attnum, 'SELECT')
    );
    condition realtime.user_defined_filter;
    kind regtype;
    picked text;
BEGIN
    FOREACH condition IN ARRAY new.filters LOOP
        IF NOT coalesce(readable ? condition.column_name, false) THEN
            RAISE EXCEPTION 'invalid column for filter %', condition.column_name;
        END IF;
        kind := (readable ->> condition.column_name)::oid::regtype;
        CASE
        WHEN condition.op = 'in' THEN
            EXECUTE pg_catalog.format('SELECT %L::%s[]', condition.value, kind);
            IF pg_catalog.cardinality(condition.value::text[]) > 100 THEN
                RAISE EXCEPTION 'too many values for `in` filter. Maximum 100';
            END IF;
        WHEN condition.op = 'is' THEN
            IF coalesce(pg_catalog.lower(condition.value) NOT IN ('null', 'true', 'false', 'unknown'), true) THEN
                RAISE EXCEPTION 'invalid value for is filter: must be null, true, false, or unknown';
            ELSIF pg_catalog.lower(condition.value) <> 'null' AND kind <> 'boolean'::regtype THEN
                RAISE EXCEPTION 'is % filter requires a boolean column, got %', condition.value, kind;
            END IF;
        WHEN condition.op IN ('like', 'ilike', 'match', 'imatch') THEN
            BEGIN
                PERFORM realtime.check_equality_op(condition.op, kind, NULL, NULL);
            EXCEPTION WHEN undefined_function OR ambiguous_function THEN
                RAISE EXCEPTION 'operator % requires a text-compatible column type, got %', condition.op, kind;
            END;
            IF condition.op IN ('match', 'imatch') THEN
                BEGIN
                    PERFORM '' ~ condition.value;
                EXCEPTION WHEN invalid_regular_expression THEN
                    RAISE EXCEPTION 'invalid regular expression for % filter: %', condition.op, SQLERRM;
                END;
            END IF;
        ELSE
            EXECUTE pg_catalog.format('SELECT %L::%s', condition.value, kind);
        END CASE;
    END LOOP;
    FOREACH picked IN ARRAY coalesce(new.selected_columns, '{}') LOOP
        IF NOT coalesce(readable ? picked, false) THEN
            RAISE EXCEPTION 'invalid column for select %', picked;
        END IF;
    END LOOP;
    new.filters := coalesce(
        (SELECT pg_catalog.array_agg(f ORDER BY f.column_name, f.op, f.value, f.negate)
           FROM pg_catalog.unnest(new.filters) AS f),
        '{}'
    );
    new.selected_columns := (SELECT pg_catalog.array_agg(c ORDER BY c) FROM pg_catalog.unnest(new.selected_columns) AS c);
    RETURN new;
END
$$;
