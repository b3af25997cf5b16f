// SPDX-License-Identifier: Apache-2.0
//! Reading the file: every key is looked up and every value checked with its line at hand, so
//! that each mistake is one sentence that names file, line and key.

use std::{fmt, path::Path};

use toml::{Spanned, Value, de::DeTable, de::DeValue};

use super::{
    describe::{Field, Section, Shape},
    layers::{Entry, Layers, Source},
    settings::Config,
    suggest::nearest,
};

/// All that is wrong with a file, one sentence a line.
#[derive(Debug)]
pub(crate) struct FileProblems(Vec<String>);

impl fmt::Display for FileProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Puts what `text` (the content of `path`) says into `layers`.
pub(super) fn apply(layers: &mut Layers, path: &Path, text: &str) -> Result<(), FileProblems> {
    let mut reader = Reader { path, text, problems: Vec::new() };
    let parsed = DeTable::parse(text).and_then(|spans| Ok((spans, toml::from_str(text)?)));
    let (spans, values) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            reader.report(start, error.message().trim());
            return Err(reader.conclude());
        }
    };
    reader.root(layers, spans.get_ref(), &values);
    if reader.problems.is_empty() { Ok(()) } else { Err(reader.conclude()) }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    /// Line and sentence.
    problems: Vec<(usize, String)>,
}

impl Reader<'_> {
    fn root(&mut self, layers: &mut Layers, spans: &DeTable<'_>, values: &toml::Table) {
        let root = &Config::SECTIONS[0];
        for (key, span) in spans {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let Some(value) = values.get(name) else { continue };
            if let Some(field) = root.field(name) {
                self.leaf(layers.first("").0, Place { section: root, field, at }, value);
                continue;
            }
            let section = Config::SECTIONS[1..].iter().find(|section| section.name == name);
            match (section, value, span.get_ref()) {
                (Some(section), Value::Table(values), DeValue::Table(spans))
                    if section.shape == Shape::One =>
                {
                    self.table(section, layers.first(section.name).0, (spans, values));
                }
                (Some(section), Value::Array(values), DeValue::Array(spans))
                    if section.shape == Shape::Many =>
                {
                    self.list(layers, section, (spans, values));
                }
                (Some(section), ..) => {
                    let brackets = brackets(section);
                    self.report(at, &format!("'{name}' is a table; write {brackets}"));
                }
                (None, ..) => self.unknown(root, name, at),
            }
        }
    }

    fn list(
        &mut self,
        layers: &mut Layers,
        section: &'static Section,
        (spans, values): (&toml::de::DeArray<'_>, &[Value]),
    ) {
        for (span, value) in spans.iter().zip(values) {
            let (DeValue::Table(spans), Value::Table(values)) = (span.get_ref(), value) else {
                let brackets = brackets(section);
                self.report(span.span().start, &format!("write {brackets} before its keys"));
                continue;
            };
            let mut entry = Entry::of_defaults(section);
            self.table(section, &mut entry, (spans, values));
            let missing = section.fields.iter().filter(|field| field.required);
            for field in missing.filter(|field| !values.contains_key(field.name)) {
                let (name, word) = (field.name, field.word);
                let sentence = format!("this [[{}]] needs {name} ({word})", section.name);
                self.report(span.span().start, &sentence);
            }
            layers.push(section.name, entry);
        }
    }

    fn table(
        &mut self,
        section: &'static Section,
        entry: &mut Entry,
        (spans, values): (&DeTable<'_>, &toml::Table),
    ) {
        for (key, _) in spans {
            let key: &Spanned<_> = key;
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            match (section.field(name), values.get(name)) {
                (Some(field), Some(value)) => self.leaf(entry, Place { section, field, at }, value),
                _ => self.unknown(section, name, at),
            }
        }
    }

    fn leaf(&mut self, entry: &mut Entry, place: Place, value: &Value) {
        let Place { section, field, at } = place;
        if let Err(error) = (field.check)(value) {
            let dot = if section.name.is_empty() { "" } else { "." };
            let (section, name, word) = (section.name, field.name, field.word);
            let sentence = format!("{section}{dot}{name} ({word}): {error}");
            self.report(at, &sentence);
            return;
        }
        let line = self.line(at);
        entry.set(field.name, value.clone(), Source::File { line });
    }

    fn unknown(&mut self, section: &Section, name: &str, at: usize) {
        let tables = Config::SECTIONS[1..].iter().map(|section| section.name);
        let tables = tables.filter(|_| section.shape == Shape::Root);
        let fields = section.fields.iter().map(|field| field.name);
        let place = heading(section);
        let hint = match nearest(name, fields.clone().chain(tables.clone())) {
            Some(near) => format!("did you mean '{near}'?"),
            None => match Config::SECTIONS.iter().find(|other| other.field(name).is_some()) {
                Some(other) => format!("it belongs {}", heading(other)),
                None => {
                    let known: Vec<&str> = fields.chain(tables).collect();
                    format!("known here: {}", known.join(", "))
                }
            },
        };
        self.report(at, &format!("there is no setting '{name}' {place}; {hint}"));
    }

    fn report(&mut self, at: usize, sentence: &str) {
        let line = self.line(at);
        self.problems.push((line, sentence.to_owned()));
    }

    /// The sentences in the order of the file, whatever the order they were found in.
    fn conclude(mut self) -> FileProblems {
        self.problems.sort_by_key(|(line, _)| *line);
        let path = self.path.display();
        let sentences = self.problems.iter();
        FileProblems(sentences.map(|(line, said)| format!("{path}:{line}: {said}")).collect())
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Where a value stands.
struct Place {
    section: &'static Section,
    field: &'static Field,
    at: usize,
}

/// The line above the keys of a section.
fn brackets(section: &Section) -> String {
    match section.shape {
        Shape::Root => String::new(),
        Shape::One => format!("[{}]", section.name),
        Shape::Many => format!("[[{}]]", section.name),
    }
}

/// Where a section is, in a sentence.
fn heading(section: &Section) -> String {
    match section.shape {
        Shape::Root => "above the first table".to_owned(),
        Shape::One | Shape::Many => format!("in {}", brackets(section)),
    }
}
