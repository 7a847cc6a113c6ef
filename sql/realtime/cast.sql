-- A value in text form as the JSON that clients get. bytea keeps its text.
CREATE OR REPLACE FUNCTION realtime."cast"(val text, type_ regtype)
    RETURNS jsonb
    LANGUAGE plpgsql
    STABLE
AS $$
DECLARE
    result jsonb;
BEGIN
    IF type_ = 'bytea'::regtype THEN
        RETURN pg_catalog.to_jsonb(val);
    END IF;
    EXECUTE pg_catalog.format('SELECT pg_catalog.to_jsonb(%L::%s)', val, type_) INTO result;
    RETURN result;
END
$$;
