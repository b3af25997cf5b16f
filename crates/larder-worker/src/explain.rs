// SPDX-License-Identifier: Apache-2.0
//! Explain: all that is known about one file, and what the next open will do and why.

use larder_cluster::wire::message::Explanation;
use larder_core::{Freshness, Path, Result, page};
use larder_meta::{Fact, Known, Verdict, judge};

use crate::{Worker, mount::Mount};

impl Worker {
    pub(crate) fn answer_explain(&self, path: &Path) -> Result<Explanation> {
        let mount = self.mounts.get(&path.mount)?;
        let known = self.meta.status(path)?;
        let freshness = self.explain_freshness(&mount, known.as_ref());
        let age = known.as_ref().map(|known| self.clock.now().since(known.checked));
        let status = match known {
            Some(Known { fact: Fact::Present(status), .. }) => Some(status),
            _ => None,
        };
        let mut explanation = Explanation {
            path: path.clone(),
            uri: mount.storage.uri(&path.key),
            owner: self.id.to_string(),
            status: None,
            age,
            freshness,
            resident_pages: 0,
            total_pages: 0,
            resident_bytes: 0,
            fetches: 0,
            rule: self.rules.now().find(path).map(|rule| self.rule_report(rule)),
        };
        if let Some(status) = status {
            let content = mount.content_id(&path.key, &status.version);
            let presence = self.pages.presence(content, status.length);
            let all = larder_core::ByteRange::new(0, status.length);
            explanation.resident_pages = u64::from(presence.pages);
            explanation.resident_bytes = presence.bytes;
            explanation.total_pages = page::pages_of(all).len() as u64;
            explanation.fetches = self.flights.count(content);
            explanation.status = Some(status);
        }
        Ok(explanation)
    }

    fn explain_freshness(&self, mount: &Mount, known: Option<&Known>) -> String {
        let Some(known) = known else {
            return "nothing is known: the next open asks the store".into();
        };
        let (verdict, age) = judge(known, mount.record.freshness, self.clock.now());
        let age = age.as_secs();
        let what = match known.fact {
            Fact::Present(_) => "the status",
            Fact::Absent => "the absence of the file",
        };
        let rule = match mount.record.freshness {
            Freshness::Immutable => "files of this mount never change".to_owned(),
            Freshness::MaxAge(limit) => format!("the mount allows {} s", limit.as_secs()),
            Freshness::Always => "the mount asks the store at every open".to_owned(),
        };
        match verdict {
            Verdict::Fresh => {
                format!("fresh: {what} is {age} s old and {rule}; the next open asks nobody")
            }
            Verdict::Expired => {
                format!("expired: {what} is {age} s old and {rule}; the next open asks the store")
            }
        }
    }
}
