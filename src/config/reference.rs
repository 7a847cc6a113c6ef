//! The text of `docs/CONFIG.md`.

use super::settings::{SECTIONS, SETTINGS};
use super::table::Setting;

const HEAD: &str = "\
# Settings

This page is made from the table in `src/config/settings.rs`; `ROWCAST_REGENERATE=1 cargo test --test docs` writes it
anew.

Every setting can be given in three places. A flag beats the environment, the environment beats the file, and the file
beats the default:

- **flag**: `rowcast serve --database-host db.internal`
- **environment**: `ROWCAST_DATABASE_HOST=db.internal`; an empty variable counts as unset
- **file** (TOML), named by `--config FILE` or `ROWCAST_CONFIG`:

  ```toml
  [database]
  host = \"db.internal\"
  ```

A key in the file that is not listed here is an error. Durations are written `500ms`, `10s`, `5m`, `1h` or `30d`, sizes
`64KiB`, `8MiB` or `5MB`; a bare number counts the unit in the table. `rowcast serve --print-config` shows every value
and where it came from, with secrets masked. Flags are visible to everybody on the machine (`ps`): give secrets by the
environment or the file.

The variables listed under \"also\" are those that a Supabase compose file sets for its realtime service, so that
changing the image is enough. They rank below our own variables. `METRICS_JWT_SECRET` is not read: `metrics.token` is
what protects `/metrics` here.
";

/// The whole page.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        let doc = section.doc.trim();
        page.push_str(&format!("\n## {}\n\n{doc}\n\n", section.name));
        page.push_str("| Key | Flag and variable | Default | Unit | Meaning |\n|---|---|---|---|---|\n");
        for setting in SETTINGS.iter().filter(|setting| setting.section == section.name) {
            page.push_str(&row(setting));
        }
    }
    page
}

fn row(setting: &Setting) -> String {
    let mut names = format!("`--{}` `{}`", setting.flag(), setting.variable());
    if !setting.aliases.is_empty() {
        names.push_str(&format!(", also `{}`", setting.aliases.join("` `")));
    }
    let default = match setting.default {
        "" => "unset".to_owned(),
        text => format!("`{text}`"),
    };
    format!(
        "| `{}` | {names} | {default} | {} | {} |\n",
        setting.key,
        setting.unit.name(),
        setting.meaning().replace('|', "\\|")
    )
}

impl Setting {
    /// Meaning, and what values look like where that is not plain.
    pub fn meaning(&self) -> String {
        let doc = self.doc.trim();
        match self.expected {
            "text" | "a path" | "a whole number" | "a whole number from 0 to 65535" | "true or false" => {
                doc.to_owned()
            }
            expected if expected.starts_with("a duration") || expected.starts_with("a JSON") => {
                doc.to_owned()
            }
            expected => format!("{doc} One of {expected}."),
        }
    }
}
