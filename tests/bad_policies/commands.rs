//! The commands about policies and their endpoint, given what makes no sense.

use serde_json::{Value, json};

use super::SCHEMA;
use crate::support::{Database, Server, process, token};

async fn database() -> Database {
    let db = Database::new().await;
    db.execute(SCHEMA).await;
    db
}

/// The code and everything said.
async fn run(db: &Database, arguments: &[&str]) -> (Option<i32>, String) {
    let output = process::run(&db.settings, arguments).await;
    let both = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(both).expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_is_wrong_with_what_was_typed() {
    let db = database().await;
    let (claims, row) = (r#"{"role": "authenticated"}"#, r#"{"id": 1}"#);
    let deep = "[".repeat(1000);
    for (table, claims, row, code, said) in [
        ("docs", "{", row, 2, "--claims: expected a JSON object"),
        ("docs", "", row, 2, "--claims: expected a JSON object"),
        ("docs", "[]", row, 2, "--claims: expected a JSON object"),
        ("docs", "null", row, 2, "--claims: expected a JSON object"),
        ("docs", "'role'", row, 2, "--claims: expected a JSON object"),
        ("docs", "{} {}", row, 2, "--claims: expected a JSON object"),
        ("docs", &deep, row, 2, "--claims: expected a JSON object"),
        ("docs", claims, "7", 2, "--row: expected a JSON object"),
        ("docs", claims, "{\"id\": }", 2, "--row: expected a JSON object"),
        ("docs", "{}", row, 2, "the claims have no role"),
        ("docs", r#"{"role": null}"#, row, 2, "the claims have no role"),
        ("docs", r#"{"role": 7}"#, row, 2, "the claims have no role"),
        (
            "docs",
            r#"{"role": "nobody_known"}"#,
            row,
            1,
            "role nobody_known does not exist",
        ),
        ("docs", r#"{"role": ""}"#, row, 1, "does not exist"),
        ("docs", r#"{"role": "none"}"#, row, 1, "role none does not exist"),
        (
            "docs",
            claims,
            r#"{"nothing": 1}"#,
            1,
            "public.docs has no column nothing",
        ),
        (
            "docs",
            claims,
            r#"{"id": "x"}"#,
            1,
            "invalid input syntax for type integer",
        ),
        ("docs", claims, r#"{"id": 99999999999}"#, 1, "out of range"),
        (
            "docs",
            claims,
            r#"{"note": "\u0000"}"#,
            1,
            "unsupported Unicode escape sequence",
        ),
        ("", claims, row, 2, "--table: "),
        ("a.b.c", claims, row, 2, "--table: a.b.c is no table"),
        ("docs; drop table docs", claims, row, 2, "--table: "),
        ("\"docs", claims, row, 2, "--table: "),
        ("nothing", claims, row, 1, "public.nothing is no published table"),
        ("Docs", claims, row, 0, "role authenticated"),
        ("\"Docs\"", claims, row, 1, "public.Docs is no published table"),
    ] {
        let arguments = [
            "policies", "explain", "--table", table, "--claims", claims, "--row", row,
        ];
        let (got, text) = run(&db, &arguments).await;
        assert!(text.contains(said), "{arguments:?}: {text} lacks {said}");
        assert_eq!(got, Some(code), "{arguments:?}: {text}");
        assert!(
            code == 0 || text.trim_end().lines().count() == 1,
            "{arguments:?}: {text}"
        );
    }
    let (code, text) = run(&db, &["policies", "explain", "--table", "docs"]).await;
    assert!(
        code == Some(2) && text.contains("--claims") && text.contains("--row"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_say_what_is_wrong_with_them() {
    let db = database().await;
    let dir = tempfile::tempdir().expect("a directory");
    let case = "[[case]]\nname = 'one'\ntable = 'docs'\nclaims = { role = 'authenticated' }\nrow = { id = 1 }\nvisible = false\n";
    for (text, said) in [
        (
            case.replace("visible", "visibel"),
            "a.cases.toml:6: unknown field `visibel`",
        ),
        (
            case.replace("row =", "rows ="),
            "a.cases.toml:5: unknown field `rows`",
        ),
        (
            case.replace("false", "'no'"),
            "a.cases.toml:6: invalid type: string \"no\", expected a boolean",
        ),
        (case.replace("'one'", "1"), "a.cases.toml:2: invalid type"),
        (case.replace("{ id = 1 }", "1"), "a.cases.toml:5: invalid type"),
        (case.replace("[[case]]", "[case]"), "a.cases.toml:1: "),
        (case.replace("'docs'", "''"), "a.cases.toml:1: "),
        (
            case.replace("'docs'", "'nothing'"),
            "a.cases.toml:1: one: public.nothing is no published table",
        ),
        (
            case.replace("role =", "roll ="),
            "a.cases.toml:1: one: the claims have no role",
        ),
        (
            case.replace("{ id = 1 }", "{ id = [1, 2] }"),
            "a.cases.toml:1: one: the row: ",
        ),
        (
            case.replace("{ id = 1 }", "{ id = { a = 1 } }"),
            "a.cases.toml:1: one: the row: ",
        ),
        (format!("setup = 7\n{case}"), "a.cases.toml:1: invalid type"),
        (format!("setup = 'drop table docs'\n{case}"), "setup may only"),
        (format!("setup = 'insert into docs'\n{case}"), "a.cases.toml:2: "),
        (
            format!("setup = 'select pg_sleep(60)'\n{case}"),
            "a.cases.toml:2: one: setup: canceling statement",
        ),
        ("]".to_owned(), "a.cases.toml:1: "),
        (String::new(), "there are no cases in "),
    ] {
        std::fs::write(dir.path().join("a.cases.toml"), &text).expect("a file");
        let directory = dir.path().display().to_string();
        let (code, got) = run(&db, &["policies", "test", "--directory", &directory]).await;
        assert!(got.contains(said), "{text}: {got} lacks {said}");
        assert_eq!(code, Some(2), "{text}: {got}");
    }
    std::fs::write(dir.path().join("a.cases.toml"), b"\xff\xfe").expect("a file");
    let directory = dir.path().display().to_string();
    let (code, got) = run(&db, &["policies", "test", "--directory", &directory]).await;
    assert!(
        code == Some(2) && got.contains("a.cases.toml: cannot be read"),
        "{got}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_for_the_service_role() {
    let db = database().await;
    db.execute("create policy p on docs using (level > 0)").await;
    let server = Server::start(&db).await;
    let service = json!({"role": "service_role", "exp": token::now() + 3600});
    let with = |key: &str, value: Value| {
        let mut claims = service.clone();
        claims[key] = value;
        token::signed(token::SECRET, &claims)
    };
    let right = token::signed(token::SECRET, &service);
    for path in ["/api/policies", "/realtime/v1/api/policies"] {
        let url = format!("{}{path}", server.url());
        let get = async |name: &str, value: &str| {
            let request = reqwest::Client::new().get(&url).header(name, value);
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            (status, response.text().await.expect("a body"))
        };
        for (name, value, status, said) in [
            ("x-other", String::new(), 401, "API key is missing"),
            ("authorization", "Bearer".to_owned(), 401, "API key is missing"),
            (
                "authorization",
                format!("Basic {right}"),
                401,
                "API key is missing",
            ),
            ("authorization", "Bearer x".to_owned(), 401, "not a valid JWT"),
            ("authorization", "Bearer a.b.c".to_owned(), 401, "not a valid JWT"),
            ("authorization", format!("Bearer {right}x"), 401, "JWT"),
            (
                "apikey",
                token::signed("another-secret-of-at-least-32-characters", &service),
                401,
                "signature",
            ),
            ("apikey", with("exp", json!(1)), 401, "Token has expired"),
            (
                "apikey",
                with("exp", Value::Null),
                401,
                "Token expiration time is invalid",
            ),
            (
                "apikey",
                with("role", Value::Null),
                401,
                "`role` and `exp` are required",
            ),
            (
                "apikey",
                with("role", json!("authenticated")),
                403,
                "service_role",
            ),
            ("apikey", with("role", json!("SERVICE_ROLE")), 403, "service_role"),
            ("apikey", with("role", json!("postgres")), 403, "service_role"),
            ("apikey", right.clone(), 200, "\"judged\":\"compiled\""),
            ("x-api-key", right.clone(), 200, "\"judged\":\"compiled\""),
            (
                "authorization",
                format!("bearer {right}"),
                200,
                "\"judged\":\"compiled\"",
            ),
        ] {
            let (got, body) = get(name, &value).await;
            assert_eq!(got, status, "{name}: {value}: {body}");
            assert!(body.contains(said), "{name}: {value}: {body} lacks {said}");
            assert!(serde_json::from_str::<Value>(&body).is_ok(), "{body}");
        }
        let posted = reqwest::Client::new()
            .post(&url)
            .header("apikey", &right)
            .send()
            .await;
        assert_eq!(posted.expect("an answer").status().as_u16(), 405);
    }
    server.stop().await;
}
