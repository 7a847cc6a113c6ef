//! Holds the pages that describe the program to the program. `ROWCAST_REGENERATE=1 cargo test --test docs` writes the
//! generated ones anew.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails with a message"
)]

use std::fs;
use std::path::{Path, PathBuf};

use rowcast::telemetry::{DESCRIPTIONS, Metrics};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares a page with what it should be, or writes it.
fn hold(path: &str, expected: &str) {
    if std::env::var_os("ROWCAST_REGENERATE").is_some() {
        fs::write(root().join(path), expected).expect("a writable page");
    }
    let page = read(path);
    let differs = page
        .lines()
        .zip(expected.lines())
        .find(|(is, should)| is != should);
    if let Some((is, should)) = differs {
        panic!(
            "{path} is out of date: ROWCAST_REGENERATE=1 cargo test --test docs\n  is:     {is}\n  should: {should}"
        );
    }
    assert_eq!(
        page, expected,
        "{path} is out of date: ROWCAST_REGENERATE=1 cargo test --test docs"
    );
}

#[test]
fn config_md_is_the_table_of_settings() {
    hold("docs/CONFIG.md", &rowcast::config::reference());
}

#[test]
fn every_setting_has_an_effect() {
    let mut code = String::new();
    for folder in ["server", "dev", "cli"] {
        gather(&root().join("src").join(folder), &mut code);
    }
    // Read by `slot_name`, which the server calls.
    code.push_str("replication.slot replication.slot_suffix");
    for setting in rowcast::config::SETTINGS {
        // `database.url` is taken apart into the settings beside it.
        assert!(
            code.contains(&format!(".{}", setting.name)) || setting.key == "database.url",
            "{} is never read",
            setting.key
        );
    }
}

fn gather(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            gather(&entry.path(), code);
        } else {
            code.push_str(&fs::read_to_string(entry.path()).expect("UTF-8"));
        }
    }
}

#[test]
fn metrics_md_is_the_list_of_metrics() {
    let exposition = Metrics::new().render();
    let mut page = "\
# Metrics

This page is made from `src/telemetry.rs`; `ROWCAST_REGENERATE=1 cargo test --test docs` writes it anew.

`GET /metrics` answers with OpenMetrics text. Names carry their unit; labels have few values, never a topic, a row, a
user or a token. `metrics.token` (docs/CONFIG.md) protects the page.

| Name | Kind | Meaning |
|---|---|---|
"
    .to_owned();
    for (name, help) in DESCRIPTIONS {
        let kind = kind(name);
        // A metric with labels is exported once it has a value.
        let line = format!("# TYPE {} ", name.trim_end_matches("_total"));
        let exported = exposition
            .lines()
            .find_map(|candidate| candidate.strip_prefix(&line));
        assert!(
            exported.is_none_or(|exported| exported == kind),
            "{name} is no {kind}"
        );
        page.push_str(&format!("| `{name}` | {kind} | {} |\n", help.trim()));
    }
    hold("docs/METRICS.md", &page);
}

/// What a metric is, by its name.
fn kind(name: &str) -> &'static str {
    if name.ends_with("_total") {
        "counter"
    } else if name.ends_with("_seconds") {
        "histogram"
    } else {
        "gauge"
    }
}

/// README, changelog and everything in `docs`.
fn pages() -> Vec<String> {
    let docs = fs::read_dir(root().join("docs")).expect("docs").flatten();
    let mut pages: Vec<String> = docs
        .map(|entry| format!("docs/{}", entry.file_name().to_string_lossy()))
        .filter(|path| path.ends_with(".md"))
        .collect();
    pages.extend(["README.md", "CHANGELOG.md"].map(str::to_owned));
    pages
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in pages() {
        let text = read(&page);
        let folder = root().join(&page).parent().map(Path::to_owned).expect("a folder");
        for (_, after) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = after.split([')', '#']).next().unwrap_or_default();
            let is_ours = !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
            assert!(
                !is_ours || folder.join(target).exists(),
                "{page} links to {target}, which is not there"
            );
        }
    }
}

#[test]
fn commands_in_the_pages_can_be_typed() {
    for page in pages() {
        for line in commands(&read(&page)) {
            let words = line.split_whitespace();
            if let Err(error) = rowcast::cli::command().try_get_matches_from(words)
                && error.use_stderr()
            {
                panic!("{page} says `{line}`, but {error}");
            }
        }
    }
}

/// `rowcast …` in code, without variables in front, comments and what follows a continuation.
fn commands(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let candidates: Vec<&str> = if fenced {
            vec![line]
        } else {
            line.split('`').skip(1).step_by(2).collect()
        };
        for candidate in candidates {
            let code = candidate.split(" #").next().unwrap_or_default().trim();
            let words: Vec<&str> = code
                .split_whitespace()
                .skip_while(|word| word.contains('='))
                .collect();
            let is_plain = !code.contains(['\'', '"', '\\', '…', '.'])
                || code.contains(".toml")
                || code.contains(".sql");
            if words.first().is_some_and(|word| word.ends_with("rowcast")) && words.len() > 1 && is_plain {
                found.push(words.join(" "));
            }
        }
    }
    found
}
