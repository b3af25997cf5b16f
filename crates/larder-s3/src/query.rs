// SPDX-License-Identifier: Apache-2.0
//! The query of a request: decoded names and values, in their order.

use percent_encoding::percent_decode_str;

/// Decoded parameters. A plus sign stands for a space, as in forms.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parameters that are not UTF-8 keep what can be read of them; s3s refuses such requests.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let Some(text) = text else { return Self::default() };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first parameter of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first parameter of this name, unless it is empty.
    pub(crate) fn get_filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn has_any(&self, names: &[&str]) -> bool {
        self.0.iter().any(|(known, _)| names.contains(&known.as_str()))
    }
}

fn decode(text: &str) -> String {
    if !text.contains(['+', '%']) {
        return text.to_owned();
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn values_are_decoded_once() {
        let query = Query::parse(Some("prefix=a%2Bb+%2525&acl&x=%C3%BC=1"));
        assert_eq!(query.get("prefix"), Some("a+b %25"));
        assert_eq!(query.get("acl"), Some(""));
        assert_eq!(query.get("x"), Some("ü=1"));
        assert_eq!(query.get_filled("acl"), None);
        assert!(!Query::parse(None).has("a"));
    }
}
