-- What the API roles may do with our objects, as far as roles and objects are there. Looks before it grants: a GRANT
-- that changes nothing would still count as a change of the catalog.
DO $$
DECLARE
    reader text;
    target text;
    rights text[];
BEGIN
    FOR reader IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role') LOOP
        FOREACH target IN ARRAY ARRAY['realtime', 'auth'] LOOP
            IF pg_catalog.obj_description(pg_catalog.to_regnamespace(target)::oid, 'pg_namespace') LIKE 'rowcast:%'
               AND NOT pg_catalog.has_schema_privilege(reader, target, 'USAGE') THEN
                EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I', target, reader);
            END IF;
        END LOOP;
        FOREACH rights SLICE 1 IN ARRAY ARRAY[
            ['realtime.messages', 'SELECT'], ['realtime.messages', 'INSERT'], ['realtime.messages', 'UPDATE'],
            ['realtime.subscription', 'SELECT']
        ] LOOP
            IF pg_catalog.obj_description(pg_catalog.to_regclass(rights[1])::oid, 'pg_class') LIKE 'rowcast:%'
               AND NOT pg_catalog.has_table_privilege(reader, rights[1], rights[2]) THEN
                EXECUTE pg_catalog.format('GRANT %s ON %s TO %I', rights[2], rights[1], reader);
            END IF;
        END LOOP;
    END LOOP;
END
$$;
