//! The files of a directory as one set, all of it or nothing.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FilePolicy, Place, Problem, parse};
use crate::change::TableName;

/// Longest file that is read, bytes. What is longer is a dump that came here by mistake.
const MAX_BYTES: u64 = 1 << 20;

/// Where policy files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    optional: bool,
}

/// The files of a directory with their text, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The directory exists.
    pub present: bool,
    files: Vec<(Arc<str>, String)>,
}

impl Directory {
    /// A directory that may be missing, which is as if it were empty, if `optional`.
    pub fn new(path: impl Into<PathBuf>, optional: bool) -> Self {
        Self {
            path: path.into(),
            optional,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads every `*.sql` file in it, but not in directories below. Hidden files are passed over: editors and mounted
    /// volumes keep their own there.
    ///
    /// # Errors
    /// Everything that cannot be read.
    pub fn read(&self) -> Result<Texts, Vec<Problem>> {
        let whole = Place::new(&shown(&self.path), 0);
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && self.optional => {
                return Ok(Texts::default());
            }
            Err(error) => {
                return Err(vec![
                    whole.problem(format!("the directory cannot be read: {error}")),
                ]);
            }
        };
        let (mut files, mut problems) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(error) => {
                    problems.push(whole.problem(format!("the directory cannot be read: {error}")));
                    continue;
                }
            };
            if !is_policy_file(&path) {
                continue;
            }
            let name = shown(&path);
            match text(&path) {
                Ok(text) => files.push((name, text)),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        files.sort();
        Ok(Texts { present: true, files })
    }
}

impl Texts {
    /// The policies of all files, in the order of the files' names.
    ///
    /// # Errors
    /// Everything that is wrong, in all files.
    pub fn policies(&self) -> Result<Vec<FilePolicy>, Vec<Problem>> {
        let (mut policies, mut problems) = (Vec::new(), Vec::new());
        for (file, text) in &self.files {
            match parse(file, text) {
                Ok(found) => policies.extend(found),
                Err(found) => problems.extend(found),
            }
        }
        problems.extend(duplicates(&policies));
        if problems.is_empty() {
            Ok(policies)
        } else {
            Err(problems)
        }
    }
}

fn duplicates(policies: &[FilePolicy]) -> Vec<Problem> {
    let mut first: HashMap<(&TableName, &str), &Place> = HashMap::new();
    let mut problems = Vec::new();
    for policy in policies {
        let key = (&policy.policy.table, policy.policy.name.as_str());
        match first.get(&key) {
            Some(other) => problems.push(policy.place.problem(format!(
                "{} has a policy {} already, in {other}",
                policy.policy.table, policy.policy.name
            ))),
            None => {
                first.insert(key, &policy.place);
            }
        }
    }
    problems
}

/// `*.sql`, not hidden, no directory.
fn is_policy_file(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.to_string_lossy().starts_with('.'));
    !hidden && path.extension().is_some_and(|extension| extension == "sql") && !path.is_dir()
}

/// What a file says.
///
/// # Errors
/// It cannot be read, or is nothing that somebody wrote: what is no file may never end.
pub(super) fn text(path: &Path) -> Result<String, Problem> {
    let place = Place::new(&shown(path), 0);
    let unreadable = |error: std::io::Error| place.problem(format!("cannot be read: {error}"));
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(place.problem("cannot be read: not a file"));
    }
    if about.len() > MAX_BYTES {
        return Err(place.problem(format!("is larger than {} KiB", MAX_BYTES / 1024)));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

pub(super) fn shown(path: &Path) -> Arc<str> {
    Arc::from(&*path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        std::fs::write(dir.join(name), text).unwrap();
    }

    fn errors(directory: &Directory) -> Vec<String> {
        let problems = directory.read().and_then(|texts| texts.policies()).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_directory_is_one_set() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path(), true);
        assert!(directory.read().unwrap().present);
        write(dir.path(), "b.sql", "create policy b on t using (true);");
        write(
            dir.path(),
            "a.sql",
            "create policy a on t using (true); create policy c on u using (true);",
        );
        write(dir.path(), ".a.sql.swp", "junk");
        write(dir.path(), ".#a.sql", "junk");
        write(dir.path(), "a.sql~", "junk");
        write(dir.path(), "a.cases.toml", "junk");
        std::fs::create_dir(dir.path().join("old.sql")).unwrap();
        let policies = directory.read().unwrap().policies().unwrap();
        let names: Vec<_> = policies
            .iter()
            .map(|policy| policy.policy.name.as_str())
            .collect();
        assert_eq!(names, ["a", "c", "b"]);
    }

    #[test]
    fn every_problem_of_every_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..10 {
            write(
                dir.path(),
                &format!("{i}.sql"),
                &format!("create policy p{i} on t using (true);"),
            );
        }
        write(dir.path(), "3.sql", "\ncreate policy p3 on t;");
        write(dir.path(), "7.sql", "create policy p1 on public.t using (true);");
        write(dir.path(), "8.sql", "delete from t;");
        let errors = errors(&Directory::new(dir.path(), true));
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(
            errors[0].contains("3.sql:2: policy p3 has no USING"),
            "{errors:?}"
        );
        assert!(
            errors[1].contains("8.sql:1: a policy file holds only"),
            "{errors:?}"
        );
        assert!(
            errors[2].contains("7.sql:1: public.t has a policy p1 already, in ")
                && errors[2].ends_with("1.sql:1"),
            "{errors:?}"
        );
    }

    #[test]
    fn only_a_directory_that_may_be_missing_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none");
        assert_eq!(Directory::new(&missing, true).read().unwrap(), Texts::default());
        assert!(errors(&Directory::new(&missing, false))[0].contains("none: the directory cannot be read"));
        write(dir.path(), "none", "a file");
        assert!(errors(&Directory::new(&missing, true))[0].contains("cannot be read"));
        std::fs::write(dir.path().join("x.sql"), [0xff, 0xfe]).unwrap();
        assert!(errors(&Directory::new(dir.path(), true))[0].contains("x.sql: cannot be read"));
    }
}
