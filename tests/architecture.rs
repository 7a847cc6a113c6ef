//! Holds the code to the layers of `docs/ARCHITECTURE.md`: a module imports only from those above it in that table.
//!
//! A search of the text is enough: modules name each other as `crate::name` or climb to the root with `super::`.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails with a message")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longer files are split by what comes in or goes out, not by taste.
const LONGEST_FILE: usize = 600;
/// Names that say nothing about what is inside, so that everything ends up there.
const EMPTY_NAMES: [&str; 8] = [
    "util", "utils", "common", "helper", "helpers", "misc", "shared", "types",
];
/// Here the name is the thing: the rows of `pg_type`.
const EXCEPT: [&str; 2] = [
    "src/postgres/catalog/types.rs",
    "src/postgres/catalog/tests/types.rs",
];

struct Source {
    path: PathBuf,
    /// Module names from the root, `["auth", "keys"]`.
    modules: Vec<String>,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of `src`, except the two that only gather the modules.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join("src"), &mut Vec::new(), &mut found);
    assert!(found.len() > 50, "the sources were not found");
    found
}

fn collect(dir: &Path, modules: &mut Vec<String>, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).expect("a readable folder").flatten() {
        let path = entry.path();
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            modules.push(stem);
            collect(&path, modules, found);
            modules.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let mut modules = modules.clone();
            if stem != "mod" {
                modules.push(stem);
            }
            if modules == ["lib"] || modules == ["main"] {
                continue;
            }
            let text = fs::read_to_string(&path).expect("UTF-8");
            let path = path.strip_prefix(root()).expect("inside").to_owned();
            found.push(Source { path, modules, text });
        }
    }
}

/// The modules of the page's table, lowest first.
fn layers() -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    let (_, after) = page
        .split_once("\n| layer | module | answers for |\n")
        .expect("the table of modules");
    after
        .lines()
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.split('`').nth(1))
        .map(str::to_owned)
        .collect()
}

/// The top-level modules that a file imports from: name and line.
fn imports(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    // Inside a module that is written in the file, `super` climbs one step more before it leaves.
    let mut depth = source.modules.len();
    let code: Vec<&str> = source.text.lines().map(without_comment).collect();
    for (number, line) in code.iter().enumerate() {
        if line.starts_with("mod ") && line.ends_with('{') {
            depth += 1;
        } else if *line == "}" {
            depth = source.modules.len();
        }
        // A grouped import may go on over several lines, up to its semicolon.
        let statement = || code.iter().skip(number).copied().collect::<Vec<_>>().join("\n");
        for (at, prefix) in roots(line, depth) {
            let rest = match line.get(at + prefix..) {
                Some(rest) if rest.starts_with('{') => {
                    let whole = statement();
                    whole.get(at + prefix..).unwrap_or_default().to_owned()
                }
                Some(rest) => rest.to_owned(),
                None => continue,
            };
            found.extend(first_names(&rest).into_iter().map(|name| (name, number + 1)));
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Where a line names the root of the crate: position, and the length up to the name that follows.
fn roots(line: &str, depth: usize) -> Vec<(usize, usize)> {
    let climbs = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", climbs.as_str()] {
        found.extend(line.match_indices(prefix).filter_map(|(at, _)| {
            let before = line.get(..at)?.chars().next_back();
            let begins = before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':' || c == '$'));
            begins.then_some((at, prefix.len()))
        }));
    }
    found
}

/// `a::b` gives `a`; `{a::{b, c}, d}` gives `a` and `d`.
fn first_names(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        return vec![name(text)];
    };
    let mut names = Vec::new();
    let (mut nesting, mut start) = (0usize, 0usize);
    for (at, c) in group.char_indices() {
        match c {
            '{' => nesting += 1,
            '}' if nesting == 0 => {
                names.push(name(group.get(start..at).unwrap_or_default().trim()));
                break;
            }
            '}' => nesting -= 1,
            ',' if nesting == 0 => {
                names.push(name(group.get(start..at).unwrap_or_default().trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn name(path: &str) -> String {
    path.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn modules_import_only_from_those_above_them() {
    let layers = layers();
    let position = |module: &str| layers.iter().position(|layer| layer == module);
    let mut wrong = Vec::new();
    for source in sources() {
        let own = source.modules.first().expect("a module");
        for (module, line) in imports(&source) {
            // Anything else is an item at the root, or a word in a text.
            let Some(theirs) = position(&module) else {
                continue;
            };
            if module != *own && position(own).is_none_or(|ours| theirs > ours) {
                wrong.push(format!(
                    "{}:{line}: {own} imports from {module}",
                    source.path.display()
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "modules that are lower in docs/ARCHITECTURE.md, or not in it:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_table_names_every_module_once() {
    let layers = layers();
    let unique: BTreeSet<_> = layers.iter().cloned().collect();
    assert_eq!(unique.len(), layers.len(), "a module is named twice: {layers:?}");
    let modules: BTreeSet<_> = sources()
        .iter()
        .filter_map(|source| source.modules.first().cloned())
        .collect();
    assert_eq!(unique, modules, "the table (left) and src (right) differ");
}

#[test]
fn files_are_short_and_their_names_say_something() {
    for source in sources() {
        let path = source.path.to_string_lossy();
        let lines = source.text.lines().count();
        assert!(
            lines <= LONGEST_FILE,
            "{path} has {lines} lines, more than {LONGEST_FILE}"
        );
        let empty = source
            .modules
            .iter()
            .find(|name| EMPTY_NAMES.contains(&name.as_str()));
        if let Some(empty) = empty
            && !EXCEPT.contains(&path.as_ref())
        {
            panic!("{path}: a module called {empty} says nothing about what is inside");
        }
    }
}

#[test]
fn the_search_sees_groups_and_climbs() {
    let see = |path: &str, text: &str| {
        let source = Source {
            path: path.into(),
            modules: path.split('/').map(str::to_owned).collect(),
            text: text.to_owned(),
        };
        imports(&source)
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(see("a/b", "use crate::hub::{Frame, Outbox};"), ["hub"]);
    assert_eq!(
        see("a/b", "use crate::{\n    auth::{Claims, Key},\n    hub,\n};"),
        ["auth", "hub"]
    );
    assert_eq!(see("a/b", "fn f() -> crate::auth::Claims {"), ["auth"]);
    assert_eq!(see("a/b", "use super::c; // crate::hub"), Vec::<String>::new());
    assert_eq!(see("a/b", "use super::super::hub::Frame;"), ["hub"]);
    assert_eq!(
        see("a/b", "mod tests {\n    use super::super::c;\n}"),
        Vec::<String>::new()
    );
    assert_eq!(
        see("a", "mod tests {\n    use super::*;\n}"),
        Vec::<String>::new()
    );
    assert_eq!(see("a", "use super::hub;"), ["hub"]);
    assert_eq!(see("a/b", "pub(in crate::a) fn f() {}"), ["a"]);
}
