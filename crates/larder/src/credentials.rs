// SPDX-License-Identifier: Apache-2.0
//! The key pairs of the S3 face: Larder's own, made at the first start, and those of files in
//! the AWS credentials format. No secret gets into an error: mistakes are named by line.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use larder_core::{Error, ErrorKind, Result};
use larder_s3::Keys;

use crate::state::{random_bytes, write_private};

/// Bytes of a credentials file at most.
const FILE_LENGTH_MAX: u64 = 1 << 20;
/// Characters of an access key behind its first six, and of a secret.
const ACCESS_KEY_TAIL: usize = 14;
const SECRET_LENGTH: usize = 40;

/// Makes Larder's own key pair where there is none yet.
///
/// # Errors
/// `Invalid` when the file can't be written.
pub(crate) fn ensure_own_pair(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let access_key = format!("LARDER{}", random_text(UPPER_AND_DIGITS, ACCESS_KEY_TAIL)?);
    let secret = random_text(LETTERS_AND_DIGITS, SECRET_LENGTH)?;
    let text =
        format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret}\n");
    write_private(path, &text).map_err(|error| {
        Error::invalid(format!("can't write {}", path.display())).with_source(error)
    })
}

/// Adds every pair of a credentials file to `keys`.
///
/// # Errors
/// `Invalid` with a sentence that names file and line, `Denied` when it may not be read.
pub(crate) fn add_file(keys: &mut Keys, path: &Path) -> Result<()> {
    let shown = path.display();
    let unreadable = |error: io::Error| {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let kind = if denied { ErrorKind::Denied } else { ErrorKind::Invalid };
        Error::new(kind, format!("can't read the credentials file {shown}")).with_source(error)
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.len() > FILE_LENGTH_MAX {
        return Err(Error::invalid(format!("{shown} is too long to be a credentials file")));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %shown, "other users can read this credentials file; chmod 600 it");
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    for pair in parse(&text).map_err(|error| error.context(shown))? {
        keys.insert(&pair.access_key, pair.secret)?;
    }
    Ok(())
}

/// One profile. No `Debug`: it holds a secret.
struct Pair {
    access_key: String,
    secret: String,
}

/// A profile while its lines are read.
#[derive(Default)]
struct Draft {
    line: usize,
    access_key: Option<String>,
    secret: Option<String>,
}

fn parse(text: &str) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    let mut draft: Option<Draft> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') {
            if !line.ends_with(']') {
                return Err(malformed(number, "a profile is written [name]"));
            }
            finish(&mut pairs, draft.replace(Draft { line: number, ..Draft::default() }))?;
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| malformed(number, "a line is `name = value`, [profile] or # comment"))?;
        let current = draft
            .as_mut()
            .ok_or_else(|| malformed(number, "a [profile] line must come before the keys"))?;
        let value = value.trim().to_owned();
        match name.trim() {
            "aws_access_key_id" => current.access_key = Some(value),
            "aws_secret_access_key" => current.secret = Some(value),
            // Other tools keep more here (region, session token); it is theirs.
            _ => {}
        }
    }
    finish(&mut pairs, draft)?;
    if pairs.is_empty() {
        return Err(Error::invalid("there is no key pair in this file"));
    }
    Ok(pairs)
}

fn finish(pairs: &mut Vec<Pair>, draft: Option<Draft>) -> Result<()> {
    let Some(Draft { line, access_key, secret }) = draft else { return Ok(()) };
    match (access_key, secret) {
        (Some(access_key), Some(secret)) => pairs.push(Pair { access_key, secret }),
        (None, None) => {}
        _ => {
            let both = "a profile needs aws_access_key_id and aws_secret_access_key";
            return Err(malformed(line, both));
        }
    }
    Ok(())
}

fn malformed(line: usize, sentence: &str) -> Error {
    Error::invalid(format!("line {line}: {sentence}"))
}

const UPPER_AND_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const LETTERS_AND_DIGITS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";

/// Random characters of an alphabet whose length divides 256, so that none is more likely.
fn random_text(alphabet: &[u8], length: usize) -> Result<String> {
    let mut bytes = vec![0; length];
    random_bytes(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_profiles_and_names_mistakes_by_line_without_secrets() {
        let text = "# c\n[default]\naws_access_key_id = A\naws_secret_access_key=s=1\nregion = x\n\
                    [b]\n[c]\naws_access_key_id=B\naws_secret_access_key = t\n";
        let pairs = parse(text).expect("legal");
        let seen: Vec<_> =
            pairs.iter().map(|p| (p.access_key.as_str(), p.secret.as_str())).collect();
        assert_eq!(seen, [("A", "s=1"), ("B", "t")]);
        for (text, line) in [
            ("aws_access_key_id = A", "line 1"),
            ("[a]\nhunter2", "line 2"),
            ("[a]\n\n[b\n", "line 3"),
            ("[a]\naws_secret_access_key = hunter2\n", "line 1"),
        ] {
            let said = parse(text).map(|_| ()).expect_err("malformed").to_string();
            assert!(said.contains(line) && !said.contains("hunter2"), "{said}");
        }
        assert!(parse("").is_err());
    }

    #[test]
    fn a_pair_is_made_once_and_is_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("credentials");
        ensure_own_pair(&path).expect("written");
        let first = fs::read_to_string(&path).expect("there");
        ensure_own_pair(&path).expect("kept");
        assert_eq!(fs::read_to_string(&path).expect("there"), first);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let mut keys = Keys::new();
        add_file(&mut keys, &path).expect("legal");
        assert!(!keys.is_empty());
    }
}
