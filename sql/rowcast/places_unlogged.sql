-- Where the table is ours and is logged, as after some restores, or comes from an earlier version, it is made as it should be. Looks
-- first: the change itself locks the table.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
         WHERE c.oid = pg_catalog.to_regclass('rowcast.places')
           AND pg_catalog.obj_description(c.oid, 'pg_class') LIKE 'rowcast:%'
           AND (o.rolname = CURRENT_USER OR o.rolsuper)
           AND NOT EXISTS (
               SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = c.oid AND a.attname = 'version' AND NOT a.attisdropped
           )
    ) THEN
        ALTER TABLE rowcast.places ADD COLUMN version bigint NOT NULL DEFAULT 0;
    END IF;
    IF EXISTS (
        SELECT FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
         WHERE c.oid = pg_catalog.to_regclass('rowcast.places')
           AND c.relpersistence = 'p'
           AND pg_catalog.obj_description(c.oid, 'pg_class') LIKE 'rowcast:%'
           AND (o.rolname = CURRENT_USER OR o.rolsuper)
    ) THEN
        ALTER TABLE rowcast.places SET UNLOGGED;
    END IF;
END
$$;
