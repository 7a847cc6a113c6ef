//! Finds the Postgres that is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::DevError;

/// Oldest major version we work with.
const OLDEST_MAJOR: u32 = 14;

/// One installed Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Folder with `postgres` and `initdb`.
    pub bin: PathBuf,
    /// Major version.
    pub major: u32,
    /// Whether the wal2json plugin is where this Postgres looks for it.
    pub wal2json: bool,
    /// Whether this Postgres uses only those output plugins that `output_plugin_libraries` names (minor releases since
    /// November 2026).
    pub lists_plugins: bool,
}

impl Installation {
    /// The best one: with wal2json before without, then the newest.
    ///
    /// # Errors
    /// [`DevError::NoPostgres`].
    pub fn find() -> Result<Self, DevError> {
        Self::all().into_iter().next().ok_or(DevError::NoPostgres)
    }

    /// All of them, best first.
    pub fn all() -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for bin in candidates() {
            if let Some(installation) = Self::at(&bin)
                && !found.iter().any(|other| other.bin == installation.bin)
            {
                found.push(installation);
            }
        }
        // Stable: what comes first in PATH stays first among equals.
        found.sort_by_key(|found| std::cmp::Reverse((found.wal2json, found.major)));
        found
    }

    /// The one whose binaries are in `bin`, if they are and are new enough.
    pub fn at(bin: &Path) -> Option<Self> {
        let bin = bin.canonicalize().ok()?;
        if !bin.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(bin.join("postgres"))
            .arg("--version")
            .output()
            .ok()?;
        let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
        (major >= OLDEST_MAJOR).then(|| Self {
            wal2json: has_wal2json(&bin),
            lists_plugins: has_setting(&bin, "output_plugin_libraries"),
            bin,
            major,
        })
    }
}

/// Whether this Postgres knows a setting (it would not start with one that it does not know).
fn has_setting(bin: &Path, name: &str) -> bool {
    let described = Command::new(bin.join("postgres"))
        .arg("--describe-config")
        .output();
    described.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .any(|line| line.split('\t').next() == Some(name))
    })
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `17beta2`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number.get(..digits)?.parse().ok()
}

fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    for (parent, prefix, suffix) in [
        ("/usr/lib/postgresql", "", "bin"),         // Debian, Ubuntu
        ("/usr", "pgsql-", "bin"),                  // PostgreSQL's own packages for Red Hat
        ("/opt/homebrew/opt", "postgresql", "bin"), // Homebrew on Apple silicon
        ("/usr/local/opt", "postgresql", "bin"),    // Homebrew on Intel
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        folders.extend(
            entries
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path().join(suffix)),
        );
    }
    folders
}

/// Postgres looks for plugins in its `pkglibdir`.
fn has_wal2json(bin: &Path) -> bool {
    let reported = Command::new(bin.join("pg_config"))
        .arg("--pkglibdir")
        .output()
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        .ok();
    let above = bin.parent().unwrap_or(bin);
    let usual = [
        above.join("lib"),
        above.join("lib/postgresql"),
        above.join("lib64/pgsql"),
    ];
    reported
        .into_iter()
        .chain(usual)
        .any(|folder| folder.join("wal2json.so").is_file() || folder.join("wal2json.dylib").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_version_lines() {
        assert_eq!(
            major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 17"), Some(17));
        assert_eq!(major_of("psql 15"), None);
    }
}
