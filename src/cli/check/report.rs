use std::fmt::{self, Write as _};

/// What the doctor found, as data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Findings, in the order of the questions.
    pub lines: Vec<Line>,
    /// The published tables, by name.
    pub tables: Vec<TableView>,
    /// What the policies on private channels say, if the table is there that they are on.
    pub channels: Option<TableView>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// What it is about, in a word or two.
    pub subject: String,
    /// The finding.
    pub text: String,
    /// What to run, where something is to be done.
    pub remedy: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// `serve` works, but not everything does, or not for everybody.
    Warning,
    /// `serve` would not work.
    Failure,
}

/// A published table and what tokens could see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableView {
    /// Schema and name.
    pub name: String,
    /// Key, replica identity and row security in a few words.
    pub traits: String,
    /// One per role that was asked for and exists.
    pub roles: Vec<RoleView>,
    /// Each policy's name, and how it is judged: in memory, or by asking Postgres and why.
    pub policies: Vec<(String, String)>,
}

/// What a token of one role could see of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleView {
    /// The role.
    pub role: String,
    /// What it could see, in a few words.
    pub sees: String,
}

/// The report in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `serve` would work.
    Ready,
    /// `serve` would work; something deserves a look.
    Warnings,
    /// `serve` would not work.
    WouldNotServe,
}

impl Verdict {
    /// The exit code of the process: 0 where `serve` would work, else 1.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ready | Self::Warnings => 0,
            Self::WouldNotServe => 1,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "serve would work",
            Self::Warnings => "serve would work; the lines marked warn deserve a look",
            Self::WouldNotServe => "serve would not work; run what the lines marked FAIL say",
        })
    }
}

impl Report {
    pub(super) fn add(
        &mut self,
        level: Level,
        subject: &str,
        text: impl Into<String>,
        remedy: impl Into<Option<String>>,
    ) {
        self.lines.push(Line {
            level,
            subject: subject.to_owned(),
            text: text.into(),
            remedy: remedy.into(),
        });
    }

    /// The worst finding, as an answer.
    pub fn verdict(&self) -> Verdict {
        match self.lines.iter().map(|line| line.level).max() {
            Some(Level::Failure) | None => Verdict::WouldNotServe,
            Some(Level::Warning) => Verdict::Warnings,
            Some(Level::Ok) => Verdict::Ready,
        }
    }

    /// The report for a terminal, with a line break at its end.
    pub fn render(&self) -> String {
        let width = self
            .lines
            .iter()
            .map(|line| line.subject.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for line in &self.lines {
            let level = match line.level {
                Level::Ok => "ok  ",
                Level::Warning => "warn",
                Level::Failure => "FAIL",
            };
            // Writing to a String does not fail.
            let _ = writeln!(text, "{level}  {:width$}  {}", line.subject, line.text);
            for step in line.remedy.iter().flat_map(|remedy| remedy.lines()) {
                let _ = writeln!(text, "      {:width$}  run: {step}", "");
            }
        }
        for table in self.tables.iter().chain(&self.channels) {
            let _ = writeln!(text, "\n{}  {}", table.name, table.traits);
            let width = table
                .roles
                .iter()
                .map(|view| view.role.chars().count())
                .max()
                .unwrap_or(0);
            for view in &table.roles {
                let _ = writeln!(text, "  {:width$}  {}", view.role, view.sees);
            }
            for (policy, judged) in &table.policies {
                let _ = writeln!(text, "  policy {policy}: {judged}");
            }
        }
        let _ = writeln!(text, "\n{}", self.verdict());
        text
    }
}
