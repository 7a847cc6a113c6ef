use super::{read, table};
use crate::postgres::catalog::TypeKind;
use crate::postgres::testing::Cluster;

#[tokio::test]
async fn types_are_followed_to_the_ground() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        r#"
        CREATE SCHEMA "T s";
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE DOMAIN "T s"."Small" AS positive CHECK (VALUE < 9);
        CREATE DOMAIN few AS "T s"."Small"[] CHECK (cardinality(VALUE) < 9);
        CREATE TYPE "T s"."Mood ""q""" AS ENUM ('ok', 'bad');
        CREATE TYPE inner_pair AS (gone int, x numeric, "Y" "T s"."Mood ""q"""[]);
        ALTER TYPE inner_pair DROP ATTRIBUTE gone;
        CREATE TYPE outer_pair AS (p inner_pair, at timestamptz);
        CREATE TYPE span AS RANGE (subtype = float8);
        CREATE TYPE shape AS ENUM ('dot');
        CREATE FUNCTION shape_json(shape) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT '{}'::json $$;
        CREATE CAST (shape AS json) WITH FUNCTION shape_json(shape);
        CREATE TABLE t (a few, b outer_pair[], c span, d span_multirange, e box[], f shape, g "char", h bit(3), i int2vector);
        "#,
    )
    .await;
    let t = table(&catalog, "public", "t");
    let types = &catalog.types;
    let of = |column: &str| types.0[&t.columns[t.column(column).expect("column")].type_oid].clone();
    let named = |name: &str| {
        types
            .0
            .values()
            .find(|t| &*t.name == name)
            .unwrap_or_else(|| panic!("{name}"))
            .clone()
    };

    let few = of("a");
    assert_eq!((&*few.name, &*few.sql), ("few", "public.few"));
    assert_eq!(types.base(few.oid), named("_Small").oid);
    let small = named("Small");
    assert_eq!(&*small.sql, r#""T s"."Small""#);
    assert_eq!(
        named("_Small").kind,
        TypeKind::Array {
            element: small.oid,
            delimiter: ','
        }
    );
    assert_eq!(types.base(small.oid), 23);
    assert_eq!(types.0[&23].kind, TypeKind::Base);
    assert_eq!(&*types.0[&23].sql, "pg_catalog.int4");

    let TypeKind::Array { element, .. } = of("b").kind else {
        panic!("an array")
    };
    let TypeKind::Composite { fields } = types.0[&element].kind.clone() else {
        panic!("a composite")
    };
    assert_eq!(fields.iter().map(|f| &*f.0).collect::<Vec<_>>(), ["p", "at"]);
    let TypeKind::Composite { fields } = types.0[&fields[0].1].kind.clone() else {
        panic!("a composite")
    };
    assert_eq!(fields.iter().map(|f| &*f.0).collect::<Vec<_>>(), ["x", "Y"]);
    let mood = named("Mood \"q\"");
    let labels = vec!["ok".into(), "bad".into()];
    assert_eq!(
        (&mood.kind, &*mood.sql),
        (&TypeKind::Enum { labels }, r#""T s"."Mood ""q""""#)
    );

    assert_eq!(of("c").kind, TypeKind::Range);
    assert_eq!(of("d").kind, TypeKind::Range);
    assert!(types.0.contains_key(&701), "the range's float8");
    assert_eq!(
        of("e").kind,
        TypeKind::Array {
            element: 603,
            delimiter: ';'
        }
    );
    assert!(of("f").json_cast);
    assert!(types.0.values().filter(|t| t.json_cast).count() == 1);
    assert_eq!(
        (&*of("g").sql, &*of("h").sql),
        ("pg_catalog.\"char\"", "pg_catalog.\"bit\"")
    );
    assert_eq!(
        of("i").kind,
        TypeKind::Array {
            element: 21,
            delimiter: ','
        }
    );

    // Every printed name is one that Postgres reads back as the same type.
    for known in types.0.values() {
        let row = db
            .query_one("SELECT $1::text::regtype::oid", &[&&*known.sql])
            .await
            .expect("a type");
        assert_eq!(row.get::<_, u32>(0), known.oid, "{}", known.sql);
    }
}
