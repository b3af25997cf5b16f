// SPDX-License-Identifier: Apache-2.0
//! The little XML that S3 speaks, as a tree of names, texts and children.
//!
//! Read by events and not by serde, because texts must stay as they are: a key may begin or end
//! with a space. Depth and number of elements are bounded; what is not XML is an error.

use larder_core::{Error, Result};
use quick_xml::{Reader, escape::resolve_xml_entity, events::Event};

/// Elements within elements at most.
const DEPTH_MAX: usize = 16;
/// Elements of a document at most; a listing of 1,000 keys has some 10,000.
const ELEMENTS_MAX: usize = 100_000;

/// One element.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// The name without its name-space prefix.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The children of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of this name, exactly as it stands.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.as_str())
    }
}

/// Parses a document and answers its root.
pub(super) fn parse(document: &[u8]) -> Result<Element> {
    let text = std::str::from_utf8(document).map_err(|error| not_xml().with_source(error))?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = vec![Element::default()];
    let mut elements = 0;
    loop {
        let event = reader.read_event().map_err(|error| not_xml().with_source(error))?;
        let Some(current) = open.last_mut() else { return Err(not_xml()) };
        match event {
            Event::Start(tag) => {
                elements += 1;
                if open.len() > DEPTH_MAX || elements > ELEMENTS_MAX {
                    return Err(not_xml());
                }
                open.push(named(tag.local_name().as_ref()));
            }
            Event::Empty(tag) => {
                elements += 1;
                if elements > ELEMENTS_MAX {
                    return Err(not_xml());
                }
                current.children.push(named(tag.local_name().as_ref()));
            }
            Event::End(_) => {
                let Some(done) = open.pop() else { return Err(not_xml()) };
                let Some(parent) = open.last_mut() else { return Err(not_xml()) };
                parent.children.push(done);
            }
            Event::Text(text) => current.text.push_str(&text),
            Event::CData(data) => current.text.push_str(&data),
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(character)) => current.text.push(character),
                Ok(None) => {
                    current.text.push_str(resolve_xml_entity(&reference).ok_or_else(not_xml)?);
                }
                Err(error) => return Err(not_xml().with_source(error)),
            },
            Event::Eof => break,
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::DocType(_) => {}
        }
    }
    let document = open.pop().filter(|_| open.is_empty());
    document.and_then(|mut document| document.children.pop()).ok_or_else(not_xml)
}

fn named(name: &str) -> Element {
    Element { name: name.to_owned(), ..Element::default() }
}

fn not_xml() -> Error {
    Error::unavailable("the store answered with something that is not S3's XML")
}

/// `text` for use inside an element.
pub(super) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_as_they_are() {
        let document = b"<?xml version=\"1.0\"?>\n<R xmlns=\"http://s3\"><Key> a &amp;&#x20;b \
            </Key><Key><![CDATA[<x>]]></Key><None/></R>";
        let root = parse(document).expect("XML");
        let keys: Vec<_> = root.all("Key").map(|key| key.text.as_str()).collect();
        assert_eq!(keys, [" a & b ", "<x>"]);
        assert_eq!((root.name(), root.text("None"), root.text("No")), ("R", Some(""), None));
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        let deep = "<a>".repeat(100);
        let garbage: [&[u8]; 8] = [
            b"",
            b"hello",
            b"<a>",
            b"<a></b>",
            b"</a>",
            b"<a>&unknown;</a>",
            b"\xff\xfe<a/>",
            deep.as_bytes(),
        ];
        for document in garbage {
            assert!(parse(document).is_err(), "{:?}", String::from_utf8_lossy(document));
        }
    }
}
