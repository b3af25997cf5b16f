// SPDX-License-Identifier: Apache-2.0
//! Traces from files: `libCacheSim`'s oracleGeneral records, and comma-separated lines.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, BufWriter, Read, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};

use super::trace::{Kind, PAGES_OF_A_SEGMENT, Request, Trace};

/// A record of oracleGeneral: seconds (u32), name (u64), size (u32), next access (i64).
const RECORD: usize = 24;

/// Reads the trace at `path`; its ending says which format it has: `.csv` with the columns
/// `name,size` or, for pages, `segment,page`; `.bin` and `.oracleGeneral` are oracleGeneral.
pub fn read(path: &Path) -> Result<Trace> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let input = BufReader::new(file);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    let trace = match ending.as_ref() {
        "csv" => csv(stem, input)?,
        "bin" | "oracleGeneral" => oracle_general(stem, input)?,
        other => bail!("{name} ends in .{other}; known are .csv, .bin and .oracleGeneral"),
    };
    match trace.requests.len() {
        0 => bail!("{name} has no requests"),
        _ => Ok(trace),
    }
}

/// Writes `trace` into `directory` as oracleGeneral, its name made a file's name.
pub fn write(directory: &Path, trace: &Trace) -> Result<()> {
    let name = trace.name.replace([' ', '/', ','], "_");
    let path = directory.join(format!("{name}.oracleGeneral.bin"));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut output = BufWriter::new(file);
    let mut next_at = HashMap::new();
    let mut next = vec![-1_i64; trace.requests.len()];
    for (at, request) in trace.requests.iter().enumerate().rev() {
        next[at] = next_at.insert(request.name, at as i64).unwrap_or(-1);
    }
    for (request, next) in trace.requests.iter().zip(next) {
        output.write_all(&0_u32.to_le_bytes())?;
        output.write_all(&request.name.to_le_bytes())?;
        let size = u32::try_from(request.size).context("a size has 32 bits")?;
        output.write_all(&size.to_le_bytes())?;
        output.write_all(&next.to_le_bytes())?;
    }
    output.flush()?;
    Ok(())
}

fn oracle_general(name: &str, mut input: impl Read) -> Result<Trace> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    if bytes.len() % RECORD != 0 {
        bail!("{name} does not consist of records of {RECORD} bytes");
    }
    let requests = bytes.chunks_exact(RECORD).map(|record| Request {
        name: u64::from_le_bytes(record[4..12].try_into().expect("eight bytes")),
        size: u64::from(u32::from_le_bytes(record[12..16].try_into().expect("four bytes"))),
    });
    Ok(Trace::objects(name, requests.collect()).normalised())
}

fn csv(name: &str, input: impl BufRead) -> Result<Trace> {
    let mut lines = input.lines();
    let head = lines.next().transpose()?.unwrap_or_default();
    let kind = match head.trim() {
        "name,size" => Kind::Objects,
        "segment,page" => Kind::Pages,
        other => bail!("{name} begins with {other:?}, not with name,size or segment,page"),
    };
    let mut requests = Vec::new();
    for (at, line) in lines.enumerate() {
        let line = line?;
        let columns = line.trim().split_once(',');
        let columns = columns.and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse().ok()?)));
        let Some((first, second)) = columns else { bail!("{name}: line {} is {line:?}", at + 2) };
        requests.push(match kind {
            Kind::Objects => Request { name: first, size: second },
            Kind::Pages => Request { name: first * PAGES_OF_A_SEGMENT + second, size: 64 << 10 },
        });
    }
    let trace = Trace { name: name.to_owned(), requests, kind };
    Ok(if kind == Kind::Objects { trace.normalised() } else { trace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oracle_general_is_read_and_its_sizes_are_scaled() {
        let mut bytes = Vec::new();
        for (name, size) in [(7_u64, 512_u32), (9, 1024), (7, 512)] {
            bytes.extend_from_slice(&1_u32.to_le_bytes());
            bytes.extend_from_slice(&name.to_le_bytes());
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes.extend_from_slice(&(-1_i64).to_le_bytes());
        }
        let trace = oracle_general("t", &bytes[..]).expect("three whole records");
        let names: Vec<u64> = trace.requests.iter().map(|request| request.name).collect();
        assert_eq!(names, [7, 9, 7]);
        assert_eq!(trace.requests[1].size, 2 * trace.requests[0].size);
        assert!(oracle_general("t", &bytes[..30]).is_err());
    }

    #[test]
    fn lines_are_read_by_their_head() {
        let pages = csv("t", "segment,page\n2,5\n".as_bytes()).expect("a page");
        assert_eq!(pages.kind, Kind::Pages);
        assert_eq!(pages.requests, [Request { name: 2 * 256 + 5, size: 64 << 10 }]);
        assert!(csv("t", "a,b\n1,2\n".as_bytes()).is_err());
        assert!(csv("t", "name,size\n1,x\n".as_bytes()).is_err());
    }
}
