//! Claims that are not what a policy takes them for: the outcome is that of a SELECT with them.

use serde_json::{Value, json};

use super::{POLICY_FAILED, SCHEMA, Scene, UNAVAILABLE, outcomes, subscribed};
use crate::support::{Client, Database, Server, token};

/// Conditions over the claim `x` and rows of `docs`.
const POLICIES: &[&str] = &[
    "owner = (auth.jwt() ->> 'x')::uuid",
    "level = (auth.jwt() ->> 'x')::int",
    "level < (auth.jwt() -> 'x')::int",
    "level + (auth.jwt() ->> 'x')::int > 0",
    "level < (auth.jwt() ->> 'x')::numeric",
    "(auth.jwt() ->> 'x')::bool",
    "coalesce((auth.jwt() ->> 'x')::bool, true)",
    "note = auth.jwt() ->> 'x'",
    "note = auth.jwt() -> 'x' ->> 'y'",
    "auth.jwt() -> 'x' ? note",
    "auth.jwt() @> '{\"x\": [\"open\"]}'",
    "level = any (array(select e::int from jsonb_array_elements_text(auth.jwt() -> 'x') e))",
    "level::text in (select jsonb_array_elements_text(auth.jwt() -> 'x'))",
    "(auth.jwt() ->> 'x')::timestamptz > '2020-01-01'",
    "note ~ (auth.jwt() ->> 'x')",
    "note like auth.jwt() ->> 'x'",
    "auth.jwt() ->> 'x' is null",
    "(auth.jwt() ->> 'x')::json ->> 'y' = 'open'",
    "taken(auth.jwt() ->> 'x', level)",
];

fn values() -> Vec<Value> {
    let nested = (0..50).fold(json!("open"), |inner, _| json!({ "y": inner }));
    vec![
        json!(null),
        json!("null"),
        json!(""),
        json!(" "),
        json!("open"),
        json!("5"),
        json!(" 5 "),
        json!("+5"),
        json!("0x5"),
        json!("5.0"),
        json!(5),
        json!(5.0),
        json!(5.5),
        json!(1e300),
        json!(2_147_483_647),
        json!("2147483647"),
        json!(2_147_483_648_u64),
        json!("99999999999999999999999999"),
        json!(-5),
        json!("NaN"),
        json!("infinity"),
        json!(true),
        json!("yes"),
        json!("of"),
        json!([]),
        json!([5]),
        json!(["5", "x"]),
        json!(["open"]),
        json!([["open"]]),
        json!({}),
        json!({"y": "open"}),
        json!({"y": null}),
        json!({"open": 1}),
        json!("{\"y\": \"open\"}"),
        nested,
        json!("a0000000-0000-4000-8000-000000000001"),
        json!("{A0000000-0000-4000-8000-000000000001}"),
        json!("a0000000000040008000000000000001"),
        json!("a0000000-0000-4000-8000-00000000000"),
        json!("%"),
        json!("\\"),
        json!("("),
        json!("[[:nothing:]]"),
        json!("a{1000}"),
        json!("ſ𝔘İ\u{202e}"),
        json!("'; drop table docs; --"),
    ]
}

/// What a SELECT as this user returns of a table with one row.
async fn selected(db: &Database, claims: &Value) -> Vec<String> {
    let client = db.connection().await;
    client
        .batch_execute("begin; set local role authenticated")
        .await
        .expect("the role");
    client
        .execute(
            "select set_config('request.jwt.claims', $1, true)",
            &[&claims.to_string()],
        )
        .await
        .expect("claims");
    match client.query("select id::text from docs", &[]).await {
        Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
        Err(error) if error.code().is_some() => vec![POLICY_FAILED.to_owned()],
        Err(error) => panic!("{claims}: {error}"),
    }
}

async fn compare(claims: Vec<Value>, policies: &[&str]) {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db.execute(
        "create function taken(x text, l int) returns bool language plpgsql stable as 'begin return x::int = l; end'",
    )
    .await;
    let server = Server::start(&db).await;
    let mut readers: Vec<(Value, Client)> = Vec::new();
    for mut claims in claims {
        let token = token::token("authenticated", claims.clone());
        claims["role"] = json!("authenticated");
        readers.push((claims, subscribed(&server, &token, "docs").await));
    }
    for policy in policies {
        db.execute(&format!(
            "drop policy if exists p on docs; create policy p on docs using ({policy})"
        ))
        .await;
        for (id, owner) in [(1, "null"), (2, "'a0000000-0000-4000-8000-000000000001'")] {
            db.execute(&format!(
                "truncate docs; insert into docs (id, owner) values ({id}, {owner})"
            ))
            .await;
            server.passed(&db).await;
            for (claims, client) in &mut readers {
                client.round_trip().await;
                assert_eq!(
                    outcomes(client),
                    selected(&db, claims).await,
                    "{policy} with {claims}"
                );
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_any_kind_are_what_they_are_to_postgres() {
    let claims = values().into_iter().map(|x| json!({ "x": x }));
    compare(claims.chain([json!({})]).collect(), POLICIES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_of_any_kind_are_what_they_are_to_postgres() {
    let subjects = [
        json!(null),
        json!(""),
        json!("null"),
        json!(7),
        json!(true),
        json!([]),
        json!({}),
        json!("a0000000-0000-4000-8000-000000000001"),
        json!("{A0000000-0000-4000-8000-000000000001}"),
        json!(" a0000000-0000-4000-8000-000000000001"),
    ];
    let claims = subjects.into_iter().map(|sub| json!({ "sub": sub })).collect();
    let policies = [
        "owner = auth.uid()",
        "owner = (select auth.uid())",
        "auth.uid() is null",
        "auth.jwt() ->> 'sub' is not null",
        "owner::text = auth.jwt() ->> 'sub'",
        "auth.role() = 'authenticated'",
    ];
    compare(claims, &policies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_or_has_decided_needs_no_claim() {
    // Rows are judged one by one. A SELECT would raise before it met one: its planner estimates with the claim.
    let setup = "create policy p on docs using (level = 5 or level = (auth.jwt() ->> 'x')::int)";
    let mut scene = Scene::with(setup, json!({ "x": "null" }), |_| {}).await;
    assert_eq!(scene.sees(", level", ", 5").await, ["1"]);
    assert_eq!(scene.sees(", level", ", 6").await, [POLICY_FAILED]);
    scene.server.stop().await;
}

/// Replaces the claims of a subscriber, and says what comes of that.
async fn reclaim(client: &mut Client, claims: Value) -> String {
    let token = token::token("authenticated", claims);
    client
        .push("rows", "access_token", json!({ "access_token": token }))
        .await;
    let system = client.system("rows").await;
    system["message"].as_str().expect("a message").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_may_be_long_and_deep() {
    let mut scene = Scene::new(
        "create function sized(n int) returns bool language plpgsql stable as
             'begin return length(auth.jwt() ->> ''filler'') >= n; end';
         create policy p on docs using (level = any (array(select jsonb_array_elements_text(auth.jwt() -> 'levels')::int)));
         create policy q on docs using (level = 6 and sized(6000));
         create policy r on docs using (level = 7 and auth.jwt() #>> string_to_array(repeat('y,', 99) || 'y', ',') = 'deep')",
    )
    .await;
    assert_eq!(scene.sees_a_row().await, [""; 0]);
    let deep = (0..100).fold(json!("deep"), |inner, _| json!({ "y": inner }));
    let claims = |size: usize| {
        let levels: Vec<u32> = (10..1_000).collect();
        json!({"filler": "x".repeat(size), "levels": levels, "y": deep["y"]})
    };
    assert_eq!(
        reclaim(&mut scene.reader, claims(6_000)).await,
        "Subscribed to PostgreSQL"
    );
    for (level, seen) in [(5, false), (6, true), (7, true), (999, true), (1_000, false)] {
        let row = (scene.rows + 1).to_string();
        let expected = if seen { vec![row] } else { Vec::new() };
        assert_eq!(
            scene.sees(", level", &format!(", {level}")).await,
            expected,
            "{level}"
        );
    }
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_cannot_be_read_end_the_channel() {
    // What is too deep to be parsed.
    let deep = format!("{}1{}", "{\"y\": ".repeat(1000), "}".repeat(1000));
    for (why, token) in [
        (
            "100 KB",
            token::token("authenticated", json!({"filler": "x".repeat(100_000)})),
        ),
        (
            "U+0000",
            token::token("authenticated", json!({"x": {"y": ["\u{0}"]}})),
        ),
        ("depth", unsigned(&deep)),
    ] {
        let mut scene = Scene::new("create policy p on docs using (level = 6)").await;
        assert_eq!(scene.sees(", level", ", 6").await, ["1"], "{why}");
        scene
            .reader
            .push("rows", "access_token", json!({ "access_token": token }))
            .await;
        let system = scene.reader.system("rows").await;
        assert_eq!(
            system["message"], "The token provided is not a valid JWT",
            "{why}"
        );
        // The connection stays.
        scene.reader.round_trip().await;
        assert_eq!(scene.sees(", level", ", 6").await, [""; 0], "{why}");
        scene.server.stop().await;
    }
}

/// A token with these claims, which our own signer would not write. What is in it is read before its signature.
fn unsigned(claims: &str) -> String {
    use base64::Engine as _;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part("{\"alg\":\"HS256\"}"), part(claims), part("x"))
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_from_claims() {
    let setup = "create policy p on docs using (note ~ (auth.jwt() ->> 'pattern'));
                 alter table docs alter note set default repeat('a', 40) || 'b'";
    for (pattern, expected) in [
        ("^a+b$", &["1"][..]),
        ("b$|(", &[POLICY_FAILED]),
        ("[b", &[POLICY_FAILED]),
        ("a{2,1}", &[POLICY_FAILED]),
        ("*", &[POLICY_FAILED]),
        // What would take other engines for ever.
        ("^(a+)+$", &[]),
        ("(a|a)*(a|a)*(a|a)*c", &[]),
        ("^(a?){30}a{30}c$", &[]),
        ("((a{1,100}){1,100}){1,100}", &[POLICY_FAILED]),
    ] {
        let mut scene = Scene::with(setup, json!({ "pattern": pattern }), |_| {}).await;
        assert_eq!(scene.sees_a_row().await, expected, "{pattern}");
        scene.server.stop().await;
    }
    // Back references make Postgres try everything: it is stopped, for this subscriber only.
    let slow = json!({"pattern": "^(a*)*(a*)*(a*)*(a*)*(a*)*\\1\\2\\3\\4\\5c$"});
    let mut scene = Scene::with(setup, slow, |config| {
        config.policy.timeout = std::time::Duration::from_secs(4);
    })
    .await;
    let quick = token::token("authenticated", json!({"pattern": "(a)\\1b$"}));
    let mut quick = subscribed(&scene.server, &quick, "docs").await;
    let seen = scene.sees_a_row().await;
    assert!(seen.is_empty() || seen == [UNAVAILABLE], "{seen:?}");
    assert_eq!(quick.data().await["record"]["id"], 1);
    scene.server.stop().await;
}
