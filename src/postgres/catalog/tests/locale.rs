use crate::postgres::catalog::{DefaultCollation, load};
use crate::postgres::testing::Cluster;

#[tokio::test]
async fn locales_are_told_apart() {
    let admin = Cluster::shared().superuser("postgres").await;
    for (name, options, expected) in [
        ("locale_c", "LOCALE 'C'", DefaultCollation::C),
        ("locale_posix", "LOCALE 'POSIX'", DefaultCollation::C),
        ("locale_utf", "LOCALE 'C.UTF-8'", DefaultCollation::Plain),
        (
            "locale_mixed",
            "LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'",
            DefaultCollation::Plain,
        ),
        (
            "locale_icu",
            "LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'",
            DefaultCollation::Plain,
        ),
        (
            "locale_turkish",
            "LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'",
            DefaultCollation::Turkic,
        ),
        (
            "locale_latin",
            "ENCODING 'LATIN1' LOCALE 'C'",
            DefaultCollation::Foreign,
        ),
    ] {
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0 {options}"))
            .await
            .expect(name);
        let mut db = Cluster::shared().superuser(name).await;
        let catalog = load(&mut db, "none").await.expect("a catalog");
        assert_eq!(catalog.collation, expected, "{name}");
    }
}
