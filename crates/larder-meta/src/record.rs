// SPDX-License-Identifier: Apache-2.0
//! The bytes of a status record: compact, versioned, checksummed; hostile until parsed.
//!
//! ```text
//! layout 1 | kind | checked 8 | (length 8 | modified 8 | version str | attributes?) | crc32c 4
//! ```
//! Numbers are little-endian; `str` is a LEB128 length and that many bytes of UTF-8. Attributes
//! are a mask of which of the nine headers are set (2 bytes), those headers, and the count and
//! pairs of user metadata. The checksum covers all before it: the engine's own pages have none,
//! and a flipped bit in a length must be a miss, not an answer.

use larder_core::{Attributes, Status, UnixMillis, Version, crc32c};

use crate::{Fact, Known};

const LAYOUT: u8 = 1;
const ABSENT: u8 = 0;
const PRESENT: u8 = 1;
const PRESENT_WITH_ATTRIBUTES: u8 = 2;
const CHECKSUM_BYTES: usize = 4;

/// The record of `known`.
pub(crate) fn encode(known: &Known) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    out.push(LAYOUT);
    out.push(match &known.fact {
        Fact::Absent => ABSENT,
        Fact::Present(Status { attributes: None, .. }) => PRESENT,
        Fact::Present(_) => PRESENT_WITH_ATTRIBUTES,
    });
    out.extend_from_slice(&known.checked.0.to_le_bytes());
    if let Fact::Present(status) = &known.fact {
        out.extend_from_slice(&status.length.to_le_bytes());
        out.extend_from_slice(&status.modified.0.to_le_bytes());
        put_str(&mut out, status.version.as_str());
        if let Some(attributes) = &status.attributes {
            put_attributes(&mut out, attributes);
        }
    }
    let sum = crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// What the record says; `None` when it is not one that [`encode`] could have made.
pub(crate) fn decode(record: &[u8]) -> Option<Known> {
    let (body, sum) = record.split_at_checked(record.len().checked_sub(CHECKSUM_BYTES)?)?;
    if crc32c(body).to_le_bytes() != sum {
        return None;
    }
    let mut rest = Reader(body);
    if rest.byte()? != LAYOUT {
        return None;
    }
    let kind = rest.byte()?;
    let checked = UnixMillis(rest.u64()?);
    let fact = match kind {
        ABSENT => Fact::Absent,
        PRESENT | PRESENT_WITH_ATTRIBUTES => Fact::Present(Status {
            length: rest.u64()?,
            modified: UnixMillis(rest.u64()?),
            version: Version::new(rest.str()?),
            attributes: if kind == PRESENT { None } else { Some(Box::new(rest.attributes()?)) },
        }),
        _ => return None,
    };
    rest.0.is_empty().then_some(Known { fact, checked })
}

fn put_attributes(out: &mut Vec<u8>, attributes: &Attributes) {
    // Taken apart field by field, so that a new attribute cannot be forgotten here.
    let Attributes {
        content_type,
        content_encoding,
        content_language,
        content_disposition,
        cache_control,
        expires,
        storage_class,
        version_id,
        website_redirect,
        user,
    } = attributes;
    let headers = [
        content_type,
        content_encoding,
        content_language,
        content_disposition,
        cache_control,
        expires,
        storage_class,
        version_id,
        website_redirect,
    ];
    let set = |(bit, header): (usize, &&Option<String>)| u16::from(header.is_some()) << bit;
    let mask: u16 = headers.iter().enumerate().map(set).sum();
    out.extend_from_slice(&mask.to_le_bytes());
    for header in headers.into_iter().flatten() {
        put_str(out, header);
    }
    put_number(out, user.len());
    for (name, value) in user {
        put_str(out, name);
        put_str(out, value);
    }
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What is left to read of a record.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn str(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let mask = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        let mut bit = 0;
        let mut header = || {
            let set = mask >> bit & 1 == 1;
            bit += 1;
            if set { self.str().map(|text| Some(text.to_owned())) } else { Some(None) }
        };
        let mut attributes = Attributes {
            content_type: header()?,
            content_encoding: header()?,
            content_language: header()?,
            content_disposition: header()?,
            cache_control: header()?,
            expires: header()?,
            storage_class: header()?,
            version_id: header()?,
            website_redirect: header()?,
            user: Vec::new(),
        };
        // Not reserved by the count: that is only a claim until the pairs are really there.
        for _ in 0..self.number()? {
            attributes.user.push((self.str()?.to_owned(), self.str()?.to_owned()));
        }
        Some(attributes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, proptest};

    use super::*;

    fn known() -> impl Strategy<Value = Known> {
        let text = || prop::option::of(".{0,200}");
        let attributes = (
            [text(), text(), text(), text(), text(), text(), text(), text(), text()],
            prop::collection::vec((".{0,20}", ".{0,20}"), 0..4),
        );
        let attributes = attributes.prop_map(|(headers, user)| {
            let [a, b, c, d, e, f, g, h, i] = headers;
            Box::new(Attributes {
                content_type: a,
                content_encoding: b,
                content_language: c,
                content_disposition: d,
                cache_control: e,
                expires: f,
                storage_class: g,
                version_id: h,
                website_redirect: i,
                user,
            })
        });
        let status = (any::<u64>(), ".{0,300}", any::<u64>(), prop::option::of(attributes));
        let status = status.prop_map(|(length, version, modified, attributes)| Status {
            length,
            version: Version::new(version),
            modified: UnixMillis(modified),
            attributes,
        });
        (prop::option::of(status), any::<u64>()).prop_map(|(status, checked)| Known {
            fact: status.map_or(Fact::Absent, Fact::Present),
            checked: UnixMillis(checked),
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(known in known()) {
            assert_eq!(decode(&encode(&known)), Some(known));
        }

        #[test]
        fn a_flipped_bit_is_a_miss(
            known in known(),
            at in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let mut record = encode(&known);
            let at = at.index(record.len());
            record[at] ^= 1u8 << bit;
            assert_eq!(decode(&record), None);
        }

        /// With a right checksum, so that the parser itself meets the garbage.
        #[test]
        fn garbage_never_panics(
            mut body in prop::collection::vec(any::<u8>(), 0..200),
            kind in 0..4u8,
        ) {
            if body.len() > 2 {
                body[0] = LAYOUT;
                body[1] = kind;
            }
            let sum = crc32c(&body);
            body.extend_from_slice(&sum.to_le_bytes());
            let _ = decode(&body);
        }
    }
}
