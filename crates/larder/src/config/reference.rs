// SPDX-License-Identifier: Apache-2.0
//! `docs/config.md`, written from the declarations of the settings, and the same as data.

use std::fmt::Write;

use serde::Serialize;

use super::{
    describe::{Field, Section, Shape},
    settings::Config,
};

const HEAD: &str = "\
# Configuration

<!-- Written by `larder config docs`; change the doc comments in crates/larder/src/config. -->

Larder reads one TOML file: the one named by `--config` (or `LARDER_CONFIG`), else
`$XDG_CONFIG_HOME/larder/larder.toml`, else `~/.config/larder/larder.toml` where it exists.
Environment variables go over the file and flags over both; `larder config show` prints what
results and where each value came from, `larder config check` only looks for mistakes.

Sizes are numbers with a unit: `64KiB`, `10GiB`, `1.5TB`. Durations are whole numbers with a
unit: `250ms`, `60s`, `5m`, `1h`, `2d`. No setting holds a secret: credentials are files.

```toml
[[mount]]
name = \"lake\"
uri = \"s3://acme-lake/prod\"
freshness = \"5m\"
stale_if_error = \"1h\"

[[cache]]
path = \"/var/cache/larder\"
size = \"500GiB\"

[[rules]]
path = \"/lake/models\"
pin = \"200GiB\"
```
";

/// The whole page.
pub(crate) fn reference() -> String {
    let mut page = HEAD.to_owned();
    for section in Config::SECTIONS {
        write_section(&mut page, section);
    }
    page
}

/// One setting, as `config docs --json` tells it.
#[derive(Debug, Serialize)]
pub(crate) struct Documented {
    /// `s3.listen`; what there may be many of has brackets: `mount[].uri`.
    key: String,
    /// What a value is.
    value: &'static str,
    /// The value when nobody says anything.
    default: Option<toml::Value>,
    /// Whether a value must be given.
    required: bool,
    /// What it is for.
    meaning: String,
}

/// Every setting.
pub(crate) fn documented() -> impl Iterator<Item = Documented> {
    Config::SECTIONS.iter().flat_map(|section| {
        let prefix = match section.shape {
            Shape::Root => String::new(),
            Shape::One => format!("{}.", section.name),
            Shape::Many => format!("{}[].", section.name),
        };
        section.fields.iter().map(move |field| Documented {
            key: format!("{prefix}{}", field.name),
            value: field.word,
            default: field.default.map(|default| default()),
            required: field.required,
            meaning: field.doc(),
        })
    })
}

fn write_section(page: &mut String, section: &Section) {
    let title = match section.shape {
        Shape::Root => "Above the first table".to_owned(),
        Shape::One => format!("`[{}]`", section.name),
        Shape::Many => format!("`[[{}]]`, any number of times", section.name),
    };
    let doc = section.doc();
    let _ = write!(page, "\n## {title}\n\n{doc}\n\n| key | value | default | meaning |\n");
    page.push_str("|---|---|---|---|\n");
    for field in section.fields {
        let doc = field.doc().replace('|', "\\|");
        let (name, word) = (field.name, field.word);
        let _ = writeln!(page, "| `{name}` | {word} | {} | {doc} |", default_of(field));
    }
}

fn default_of(field: &Field) -> String {
    match field.default {
        Some(default) => format!("`{}`", default()),
        None if field.required => "must be given".to_owned(),
        None => "not set".to_owned(),
    }
}
