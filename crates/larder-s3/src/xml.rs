// SPDX-License-Identifier: Apache-2.0
//! Writes the small XML documents S3 answers with.
//!
//! Keys may hold characters that XML 1.0 can't carry. S3 writes them as numeric references all
//! the same (a client that expects such keys asks for `encoding-type=url`), and so does this.

use std::fmt::Write;

/// The name space of S3's documents.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// A document under construction.
pub(crate) struct Document(String);

impl Document {
    /// Begins a document in S3's name space.
    pub(crate) fn new(root: &str) -> Self {
        let mut text = String::with_capacity(1024);
        text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = write!(text, "<{root} xmlns=\"{NAMESPACE}\">");
        Self(text)
    }

    /// Begins an error document, which has no name space.
    pub(crate) fn error() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>".into())
    }

    pub(crate) fn open(&mut self, name: &str) {
        let _ = write!(self.0, "<{name}>");
    }

    pub(crate) fn close(&mut self, name: &str) {
        let _ = write!(self.0, "</{name}>");
    }

    /// An element that holds text.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        escape(&mut self.0, text);
        self.close(name);
    }

    /// An element that holds a number or a truth value.
    pub(crate) fn value(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.0, "<{name}>{value}</{name}>");
    }

    /// The whole document.
    pub(crate) fn finish(mut self, root: &str) -> String {
        self.close(root);
        self.0
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A parser turns a bare carriage return into a newline, which is another key.
            '\0'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "&#x{:x};", u32::from(c));
            }
            _ => out.push(c),
        }
    }
}

/// Text taken out of an element of a document that was written by a machine, with the five
/// named references resolved.
pub(crate) fn element(document: &str, name: &str) -> Option<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (_, rest) = document.split_once(&open)?;
    let (text, _) = rest.split_once(&close)?;
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    Some(text.replace("&apos;", "'").replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut document = Document::error();
        document.text("Key", "a<b>&\"\r\u{1}ü");
        let text = document.finish("Error");
        assert!(text.ends_with("<Key>a&lt;b&gt;&amp;&quot;&#xd;&#x1;ü</Key></Error>"), "{text}");
        assert_eq!(element("<E><Code>a &amp; &lt;b</Code></E>", "Code").as_deref(), Some("a & <b"));
        assert_eq!(element("<E/>", "Code"), None);
    }
}
