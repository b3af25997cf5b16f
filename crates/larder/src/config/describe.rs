// SPDX-License-Identifier: Apache-2.0
//! The small reflection behind the settings: from one declaration come the struct, its defaults,
//! its check and its documentation, so that none of them can drift from the others.

use std::path::PathBuf;

use larder_core::{ByteSize, MountName, Priority};
use larder_fuse::Passthrough;
use larder_ufs::mount::Addressing;
use serde::de::DeserializeOwned;

use super::value::{HumanDuration, Listen, LogFormat, LogLevel, Prefix, Price, Rule};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// Its key.
    pub(crate) name: &'static str,
    /// Its doc comment, raw.
    doc: &'static str,
    /// What a value is, in a word for people.
    pub(crate) word: &'static str,
    /// The value when nobody says anything; `None`: it is not set then.
    pub(crate) default: Option<fn() -> toml::Value>,
    /// Whether a value must be given.
    pub(crate) required: bool,
    /// What is wrong with a value, if something is.
    pub(crate) check: fn(&toml::Value) -> Result<(), String>,
}

/// How often a section may appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Keys above the first table.
    Root,
    /// One table.
    One,
    /// A list of tables.
    Many,
}

/// Settings that belong together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    /// The name of the table; empty for the root.
    pub(crate) name: &'static str,
    /// How often it may appear.
    pub(crate) shape: Shape,
    /// Its doc comment, raw.
    doc: &'static str,
    /// Its settings.
    pub(crate) fields: &'static [Field],
}

impl Field {
    #[doc(hidden)]
    pub(crate) const fn new<T: Written>(
        name: &'static str,
        doc: &'static str,
        default: Option<fn() -> toml::Value>,
    ) -> Self {
        let required = default.is_none() && !T::OPTIONAL;
        Self { name, doc, word: T::WORD, default, required, check: check::<T> }
    }

    /// The doc comment as one paragraph.
    pub(crate) fn doc(&self) -> String {
        paragraph(self.doc)
    }
}

impl Section {
    #[doc(hidden)]
    pub(crate) const fn new(
        name: &'static str,
        shape: Shape,
        (doc, fields): (&'static str, &'static [Field]),
    ) -> Self {
        Self { name, shape, doc, fields }
    }

    /// The doc comment as one paragraph.
    pub(crate) fn doc(&self) -> String {
        paragraph(self.doc)
    }

    /// The setting of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

fn paragraph(doc: &str) -> String {
    doc.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}

fn check<T: Written>(value: &toml::Value) -> Result<(), String> {
    let checked: Result<T, _> = value.clone().try_into();
    checked.map(drop).map_err(|error| error.message().trim().to_owned())
}

/// A type a setting can have.
pub(crate) trait Written: DeserializeOwned {
    /// What a value is, in a word for people.
    const WORD: &'static str;
    /// Whether it may be left out without having a default.
    const OPTIONAL: bool = false;
}

impl<T: Written> Written for Option<T> {
    const WORD: &'static str = T::WORD;
    const OPTIONAL: bool = true;
}

/// `Type => "word"` for each type that settings use.
macro_rules! written {
    ($($kind:ty => $word:literal),* $(,)?) => {
        $(impl Written for $kind { const WORD: &'static str = $word; })*
    };
}

written! {
    bool => "true or false",
    u32 => "number",
    u64 => "number",
    String => "text",
    PathBuf => "path",
    Vec<PathBuf> => "list of paths",
    Vec<String> => "list of texts",
    Listen => "address:port",
    ByteSize => "size",
    HumanDuration => "duration",
    Price => "price",
    MountName => "mount name",
    Prefix => "path",
    Priority => "`low`, `normal` or `high`",
    Rule => "duration, `immutable` or `always`",
    Addressing => "`auto`, `path` or `virtual`",
    Passthrough => "`auto` or `off`",
    LogLevel => "`error`, `warn`, `info`, `debug`, `trace` or a filter",
    LogFormat => "`text` or `json`",
}

/// Declares a section: a struct whose doc comments, types and defaults are also data.
macro_rules! settings {
    ($(#[doc = $about:literal])* $section:ident {
        $($(#[doc = $doc:literal])* $field:ident: $kind:ty $(= $default:literal)?,)*
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $section {
            $($(#[doc = $doc])* pub(crate) $field: $kind,)*
        }
        impl $section {
            /// What this section says about itself.
            pub(crate) const DESCRIBED: (
                &'static str,
                &'static [$crate::config::describe::Field],
            ) = (
                concat!($($about, "\n"),*),
                &[$($crate::config::describe::Field::new::<$kind>(
                    stringify!($field),
                    concat!($($doc, "\n"),*),
                    settings!(@default $($default)?),
                ),)*],
            );
        }
    };
    (@default) => { None };
    (@default $default:literal) => { Some(|| toml::Value::from($default)) };
}

/// Declares the whole configuration out of its sections.
macro_rules! sections {
    ($(#[doc = $about:literal])* $config:ident {
        root { $root:ident: $root_kind:ident }
        one { $($one:ident: $one_kind:ident,)* }
        many { $($many:ident: $many_kind:ident,)* }
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone)]
        pub(crate) struct $config {
            /// Keys above the first table.
            pub(crate) $root: $root_kind,
            $(#[doc = concat!("`[", stringify!($one), "]`")] pub(crate) $one: $one_kind,)*
            $(#[doc = concat!("`[[", stringify!($many), "]]`")]
              pub(crate) $many: Vec<$many_kind>,)*
        }
        impl $config {
            /// Every section with every setting.
            pub(crate) const SECTIONS: &'static [$crate::config::describe::Section] = {
                use $crate::config::describe::{Section, Shape};
                &[
                    Section::new("", Shape::Root, $root_kind::DESCRIBED),
                    $(Section::new(stringify!($one), Shape::One, $one_kind::DESCRIBED),)*
                    $(Section::new(stringify!($many), Shape::Many, $many_kind::DESCRIBED),)*
                ]
            };

            /// The typed configuration, from values that were checked one by one.
            pub(crate) fn from_layers(
                layers: &$crate::config::Layers,
            ) -> Result<Self, larder_core::Error> {
                Ok(Self {
                    $root: layers.one("")?,
                    $($one: layers.one(stringify!($one))?,)*
                    $($many: layers.many(stringify!($many))?,)*
                })
            }
        }
    };
}

pub(super) use {sections, settings};
