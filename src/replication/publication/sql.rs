/// Our publications as they are. `$1`: names; `$2`: the one that publishes updates and deletes, too.
pub(super) const PUBLICATIONS: &str = "
SELECT p.pubname::text AS name,
       pg_catalog.pg_has_role(p.pubowner, 'USAGE') AND NOT p.puballtables
           AND NOT pg_catalog.pg_is_in_recovery() AS ours,
       p.pubinsert AND p.pubtruncate AND NOT p.pubviaroot
           AND p.pubupdate = (p.pubname = $2::text) AND p.pubdelete = (p.pubname = $2::text)
           AND (NOT pg_catalog.pg_has_role(p.pubowner, 'USAGE')
                OR coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols', 's') = 's') AS is_right
  FROM pg_catalog.pg_publication p WHERE p.pubname = ANY ($1::text[])";

/// What is to be in a publication for `$1` (schemas) and `$2` (names of tables) to be streamed, `$3` being the names of ours,
/// and whether each may publish updates and deletes (manual, \"Logical Replication: Publication\"). A virtual generated column
/// is never published, and no part of an identity may be missing: `FULL` is none then.
///
/// The partitions of a table are there through their root where all of them are wanted: then one that is attached later is
/// published from its first row on. It stays so while the wish for a new one is still on its way.
pub(super) const TARGETS: &str = "
WITH wanted AS MATERIALIZED (
    SELECT c.oid, c.relispartition
      FROM unnest($1::text[], $2::text[]) w (schema, name)
      JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
     WHERE c.relkind IN ('r', 'p')
), roots AS MATERIALIZED (
    SELECT DISTINCT pg_catalog.pg_partition_root(oid)::oid AS oid FROM wanted WHERE relispartition
), judged AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, NOT EXISTS (
        SELECT FROM (
            SELECT relid FROM pg_catalog.pg_partition_tree(c.oid) WHERE isleaf
             UNION SELECT c.oid WHERE c.relkind = 'r'
        ) l JOIN pg_catalog.pg_class leaf ON leaf.oid = l.relid
         WHERE leaf.relkind = 'r' AND CASE leaf.relreplident
            WHEN 'f' THEN EXISTS (
                SELECT FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = leaf.oid AND a.attgenerated = 'v' AND NOT a.attisdropped)
            ELSE NOT EXISTS (
                SELECT FROM pg_catalog.pg_index i
                 WHERE i.indrelid = leaf.oid AND i.indisvalid AND i.indimmediate
                   AND CASE leaf.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END) END
    ) AS identity
      FROM (SELECT oid FROM wanted UNION SELECT oid FROM roots) candidate
      JOIN pg_catalog.pg_class c ON c.oid = candidate.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
), through AS MATERIALIZED (
    SELECT j.oid FROM judged j JOIN roots r ON r.oid = j.oid
     WHERE j.identity AND (
        j.oid IN (SELECT oid FROM wanted)
        OR j.oid IN (SELECT m.prrelid FROM pg_catalog.pg_publication_rel m
                       JOIN pg_catalog.pg_publication p ON p.oid = m.prpubid WHERE p.pubname = ANY ($3::text[]))
        OR NOT EXISTS (SELECT FROM pg_catalog.pg_partition_tree(j.oid) l
                        WHERE l.isleaf AND l.relid NOT IN (SELECT oid FROM wanted)))
)
SELECT j.nspname::text AS schema, j.relname::text AS name, j.identity
  FROM judged j
 WHERE j.oid IN (SELECT oid FROM through)
    OR j.oid IN (SELECT oid FROM wanted w
                  WHERE NOT w.relispartition
                     OR pg_catalog.pg_partition_root(w.oid) NOT IN (SELECT oid FROM through))";

/// What is in our publications. `$1`: names.
pub(super) const MEMBERS: &str = "
SELECT p.pubname::text AS publication, n.nspname::text AS schema, c.relname::text AS name
  FROM pg_catalog.pg_publication p
  JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid
  JOIN pg_catalog.pg_class c ON c.oid = m.prrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE p.pubname = ANY ($1::text[])";

/// Those of `$1` (schemas) and `$2` (names of tables) that exist, have rows of their own and are in none of `$3`.
pub(super) const MISSING: &str = "
SELECT w.schema, w.name
  FROM unnest($1::text[], $2::text[]) w (schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
 WHERE c.relkind = 'r'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_tables t
                    WHERE t.pubname = ANY ($3::text[]) AND t.schemaname = w.schema AND t.tablename = w.name)";
