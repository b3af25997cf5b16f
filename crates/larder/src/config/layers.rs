// SPDX-License-Identifier: Apache-2.0
//! The layers of configuration and, for each value, the layer it came from.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use larder_core::{Error, Result};
use serde::de::DeserializeOwned;
use toml::Value;

use super::{
    describe::{Section, Shape},
    file,
    settings::Config,
};

/// Bytes of a configuration file at most.
const FILE_LENGTH_MAX: u64 = 1 << 20;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody said anything.
    Default,
    /// The configuration file, at this line.
    File {
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "file, line {line}"),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// The values of one table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry(BTreeMap<&'static str, (Value, Source)>);

impl Entry {
    pub(super) fn of_defaults(section: &Section) -> Self {
        let values = section.fields.iter().filter_map(|field| {
            let value = field.default?();
            Some((field.name, (value, Source::Default)))
        });
        Self(values.collect())
    }

    pub(super) fn set(&mut self, name: &'static str, value: Value, source: Source) {
        self.0.insert(name, (value, source));
    }

    pub(super) fn get(&self, name: &str) -> Option<&(Value, Source)> {
        self.0.get(name)
    }

    fn parse<T: DeserializeOwned>(&self, section: &str) -> Result<T> {
        let pairs = self.0.iter().map(|(name, (value, _))| ((*name).to_owned(), value.clone()));
        let table: toml::Table = pairs.collect();
        table.try_into().map_err(|error: toml::de::Error| {
            Error::invalid(format!("[{section}] {}", error.message().trim()))
        })
    }
}

/// What all layers together say.
#[derive(Debug, Clone)]
pub(crate) struct Layers(BTreeMap<&'static str, Vec<Entry>>);

/// One line of `config show`.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Shown {
    /// `s3.listen`, `mount[0].uri`.
    pub(crate) key: String,
    /// The value, if there is one.
    pub(crate) value: Option<Value>,
    /// Where it came from.
    pub(crate) source: String,
}

impl Layers {
    /// Only the defaults.
    pub(crate) fn of_defaults() -> Self {
        let sections = Config::SECTIONS.iter().map(|section| match section.shape {
            Shape::Many => (section.name, Vec::new()),
            Shape::Root | Shape::One => (section.name, vec![Entry::of_defaults(section)]),
        });
        Self(sections.collect())
    }

    /// Puts the file at `path` over what there is.
    ///
    /// # Errors
    /// `NotFound` without such a file, `Invalid` with a sentence for each mistake in it.
    pub(crate) fn apply_file(&mut self, path: &Path) -> Result<()> {
        let shown = path.display();
        let unreadable = |error: io::Error| {
            Error::invalid(format!("can't read the configuration file {shown}")).with_source(error)
        };
        if fs::metadata(path).map_err(unreadable)?.len() > FILE_LENGTH_MAX {
            return Err(Error::invalid(format!("{shown} is too long to be a configuration file")));
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        self.apply_text(path, &text).map_err(|problems| Error::invalid(problems.to_string()))
    }

    /// Puts `text`, the content of `path`, over what there is.
    pub(super) fn apply_text(
        &mut self,
        path: &Path,
        text: &str,
    ) -> Result<(), super::FileProblems> {
        file::apply(self, path, text)
    }

    /// Sets one value of a section that there is once.
    ///
    /// # Errors
    /// `Invalid` when the value is wrong.
    pub(crate) fn set(
        &mut self,
        (section, name): (&'static str, &'static str),
        value: impl Into<Value>,
        source: Source,
    ) -> Result<()> {
        let (entry, section) = self.first(section);
        set_checked(entry, section, (name, value.into()), source)
    }

    /// Adds a table to a list, or with `same` changes the one whose value of that name is equal.
    ///
    /// # Errors
    /// `Invalid` when a value is wrong.
    pub(crate) fn add(
        &mut self,
        section: &'static str,
        values: Vec<(&'static str, Value)>,
        source: Source,
    ) -> Result<()> {
        let described = described(section);
        let key = values.first().map(|(name, value)| (*name, value.clone()));
        let entries = self.0.entry(section).or_default();
        let same = |entry: &Entry| {
            key.as_ref().is_some_and(|(name, value)| {
                entry.get(name).is_some_and(|(present, _)| present == value)
            })
        };
        let position = entries.iter().position(same).unwrap_or_else(|| {
            entries.push(Entry::of_defaults(described));
            entries.len() - 1
        });
        for pair in values {
            set_checked(&mut entries[position], described, pair, source)?;
        }
        Ok(())
    }

    /// Forgets all tables of a list.
    pub(crate) fn clear(&mut self, section: &'static str) {
        self.0.insert(section, Vec::new());
    }

    pub(super) fn push(&mut self, section: &'static str, entry: Entry) {
        self.0.entry(section).or_default().push(entry);
    }

    pub(super) fn first(&mut self, section: &'static str) -> (&mut Entry, &'static Section) {
        let described = described(section);
        let entries = self.0.entry(section).or_default();
        if entries.is_empty() {
            entries.push(Entry::of_defaults(described));
        }
        (&mut entries[0], described)
    }

    pub(super) fn one<T: DeserializeOwned>(&self, section: &str) -> Result<T> {
        let first = self.0.get(section).and_then(|entries| entries.first());
        first.cloned().unwrap_or_default().parse(section)
    }

    pub(super) fn many<T: DeserializeOwned>(&self, section: &str) -> Result<Vec<T>> {
        let entries = self.0.get(section).map(Vec::as_slice).unwrap_or_default();
        entries.iter().map(|entry| entry.parse(section)).collect()
    }

    /// Every value with its source, in the order of the reference.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let mut lines = Vec::new();
        for section in Config::SECTIONS {
            let entries = self.0.get(section.name).map(Vec::as_slice).unwrap_or_default();
            for (index, entry) in entries.iter().enumerate() {
                let table = match section.shape {
                    Shape::Root => String::new(),
                    Shape::One => format!("{}.", section.name),
                    Shape::Many => format!("{}[{index}].", section.name),
                };
                lines.extend(section.fields.iter().map(|field| {
                    let found = entry.get(field.name);
                    let source = found.map_or("not set".to_owned(), |(_, from)| from.to_string());
                    let value = found.map(|(value, _)| value.clone());
                    Shown { key: format!("{table}{}", field.name), value, source }
                }));
            }
        }
        lines
    }
}

fn described(section: &str) -> &'static Section {
    let found = Config::SECTIONS.iter().find(|described| described.name == section);
    found.expect("sections are named by this crate, never by a user")
}

fn set_checked(
    entry: &mut Entry,
    section: &Section,
    (name, value): (&'static str, Value),
    source: Source,
) -> Result<()> {
    let field = section.field(name).expect("settings are named by this crate, never by a user");
    (field.check)(&value).map_err(|error| {
        let table = if section.name.is_empty() { "" } else { "." };
        let setting = format!("{}{table}{name}", section.name);
        Error::invalid(format!("{setting} ({}): {error}", field.word))
    })?;
    entry.set(name, value, source);
    Ok(())
}
