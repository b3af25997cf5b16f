// SPDX-License-Identifier: Apache-2.0
//! Rules by path: what of the cache a file may have. The longest path that covers a file counts,
//! alone; nothing is inherited from shorter ones.
//!
//! Paths live here and not in the page store: that knows a class for each rule, named by a hash of
//! its path, and is told the class with each page. After a change, and at a start, what lies there
//! already is sorted out behind ([`Worker::sort_out`]): every known file below a path of a rule,
//! old or new, is told its class, or dropped where it is never to be cached.

use std::{
    collections::BTreeSet,
    fmt,
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use larder_cluster::wire::message::RuleReport;
use larder_core::{ByteSize, ContentId, Error, FileId, Key, MountName, Path, Priority, Result};
use larder_meta::{Fact, Known};
use larder_pages::{Class, ClassRule};

use crate::{Worker, mount::Mount};

/// Rules at most: the page store numbers classes by a byte, and those of former rules count until
/// their contents are sorted out.
pub const RULES_MAX: usize = 100;
/// Files sorted out per step.
const STEP: usize = 1_000;
/// How often to wait for the page store to have read its records, a minute each time.
const LOAD_WAITS_MAX: u32 = 60;

/// What a rule covers: the file or directory of this name and all below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulePath(Covers);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Covers {
    All,
    Below { mount: MountName, key: Key },
}

impl RulePath {
    /// The mount it lies in; `None` for that of everything.
    #[must_use]
    pub fn mount(&self) -> Option<&MountName> {
        match &self.0 {
            Covers::All => None,
            Covers::Below { mount, .. } => Some(mount),
        }
    }

    fn key(&self) -> &str {
        match &self.0 {
            Covers::All => "",
            Covers::Below { key, .. } => key.as_str(),
        }
    }

    fn covers(&self, path: &Path) -> bool {
        let Covers::Below { mount, key } = &self.0 else { return true };
        if *mount != path.mount {
            return false;
        }
        let below = path.key.as_str().strip_prefix(key.as_str());
        below.is_some_and(|rest| key.is_root() || rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for RulePath {
    type Err = Error;

    /// Reads `/`, `/mount` or `/mount/key`; a slash at the end means nothing.
    fn from_str(text: &str) -> Result<Self> {
        if text == "/" {
            return Ok(Self(Covers::All));
        }
        if !text.starts_with('/') {
            return Err(Error::invalid(format!(
                "'{text}' is not a path of Larder; write it from the root: /MOUNT/DIRECTORY"
            )));
        }
        let Path { mount, key } = text.strip_suffix('/').unwrap_or(text).parse()?;
        Ok(Self(Covers::Below { mount, key }))
    }
}

impl fmt::Display for RulePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Covers::All => f.write_str("/"),
            Covers::Below { mount, key } if key.is_root() => write!(f, "/{mount}"),
            Covers::Below { mount, key } => write!(f, "/{mount}/{key}"),
        }
    }
}

/// What holds for the files that a path covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which files.
    pub path: RulePath,
    /// Whether they are cached at all.
    pub cache: bool,
    /// So much of them is never evicted.
    pub pin: Option<ByteSize>,
    /// When they are evicted, beside others.
    pub priority: Priority,
    /// How long a file is given out of the cache after its first page came in.
    pub ttl: Option<Duration>,
    /// The most they may take; then they evict their own.
    pub quota: Option<ByteSize>,
    /// The most files that may be resident; then they drop their own.
    pub quota_files: Option<u64>,
}

impl Rule {
    /// A rule that says nothing yet.
    #[must_use]
    pub fn new(path: RulePath) -> Self {
        Self {
            path,
            cache: true,
            pin: None,
            priority: Priority::default(),
            ttl: None,
            quota: None,
            quota_files: None,
        }
    }

    /// What is wrong with it by itself.
    fn check(&self) -> Result<()> {
        let says_more = *self != Self { cache: self.cache, ..Self::new(self.path.clone()) };
        let nothing = |what| format!("{what} of 0 keeps nothing; write cache = false");
        let wrong = if !self.cache && says_more {
            "cache = false leaves nothing to say; drop the other settings".to_owned()
        } else if self.cache && !says_more && self.path.mount().is_none() {
            "this says nothing about anything; drop it or add a setting".to_owned()
        } else if self.quota == Some(ByteSize(0)) {
            nothing("a quota")
        } else if self.quota_files == Some(0) {
            nothing("a quota_files")
        } else if self.ttl == Some(Duration::ZERO) {
            nothing("a ttl")
        } else if self.pin == Some(ByteSize(0)) {
            "a pin of 0 pins nothing; drop it".to_owned()
        } else if let (Some(pin), Some(quota)) = (self.pin, self.quota)
            && pin > quota
        {
            format!("pins {pin} of a quota of {quota}; lower the pin or raise the quota")
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("rule {}: {wrong}", self.path)))
    }

    fn class(&self) -> Class {
        // No rule is 0.
        Class((FileId::of_uri(&self.path.to_string()).0 as u64).max(1))
    }

    fn class_rule(&self) -> ClassRule {
        ClassRule {
            class: self.class(),
            pin_bytes: self.pin.map_or(0, |pin| pin.0),
            priority: self.priority,
            ttl: self.ttl,
            quota_bytes: self.quota.map(|quota| quota.0),
            quota_files: self.quota_files,
        }
    }
}

/// What becomes of a file's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// They are kept, as this class.
    Keep(Class),
    /// They are not.
    Pass,
}

/// A set of rules.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The longest path first.
    by_length: Vec<Rule>,
}

impl Rules {
    pub(crate) fn new(mut rules: Vec<Rule>) -> Result<Self> {
        if rules.len() > RULES_MAX {
            let count = rules.len();
            return Err(Error::invalid(format!("{count} rules; at most {RULES_MAX} can be given")));
        }
        let mut paths = BTreeSet::new();
        for rule in &rules {
            rule.check()?;
            if !paths.insert(&rule.path) {
                return Err(Error::invalid(format!("two rules are for {}", rule.path)));
            }
        }
        let length = |rule: &Rule| (rule.path.mount().is_some(), rule.path.key().len());
        rules.sort_by_key(|rule| std::cmp::Reverse(length(rule)));
        Ok(Self { by_length: rules })
    }

    /// The rule that counts for a file.
    pub(crate) fn find(&self, path: &Path) -> Option<&Rule> {
        self.by_length.iter().find(|rule| rule.path.covers(path))
    }

    pub(crate) fn treatment(&self, path: &Path) -> Treatment {
        match self.find(path) {
            None => Treatment::Keep(Class::NONE),
            Some(rule) if rule.cache => Treatment::Keep(rule.class()),
            Some(_) => Treatment::Pass,
        }
    }

    fn some_pass(&self) -> bool {
        self.by_length.iter().any(|rule| !rule.cache)
    }

    pub(crate) fn classes(&self) -> Vec<ClassRule> {
        let cached = self.by_length.iter().filter(|rule| rule.cache);
        cached.map(Rule::class_rule).collect()
    }
}

/// Looks for what is wrong with rules, by themselves and together.
///
/// # Errors
/// `Invalid`, one sentence.
pub fn check_rules(rules: &[Rule]) -> Result<()> {
    Rules::new(rules.to_vec()).map(drop)
}

/// The rules that hold now.
#[derive(Debug)]
pub(crate) struct RuleBook {
    now: RwLock<Arc<Rules>>,
    /// How often they have changed.
    edition: Edition,
    /// Whether any of them keeps files out of the cache.
    some_pass: AtomicBool,
    /// What a rule, present or former, covers and is not yet sorted out. Whoever sorts takes a
    /// path off while no change has come since it began; locked after `now`.
    unsorted: Mutex<BTreeSet<RulePath>>,
}

impl RuleBook {
    pub(crate) fn new(rules: Arc<Rules>) -> Self {
        let some_pass = AtomicBool::new(rules.some_pass());
        Self {
            now: RwLock::new(rules),
            edition: Edition::default(),
            some_pass,
            unsorted: Mutex::default(),
        }
    }

    /// Whether the pages of a file are not kept. Without such a rule no lock is taken.
    pub(crate) fn pass(&self, path: &Path) -> bool {
        self.some_pass.load(Ordering::Relaxed) && self.now().treatment(path) == Treatment::Pass
    }

    pub(crate) fn now(&self) -> Arc<Rules> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often the rules have changed: asked before them, it tells later whether what they said
    /// still holds.
    pub(crate) fn edition(&self) -> u64 {
        self.edition.now()
    }

    /// The same for who must not hold the worker.
    pub(crate) fn editions(&self) -> Edition {
        self.edition.clone()
    }

    fn unsorted(&self) -> MutexGuard<'_, BTreeSet<RulePath>> {
        self.unsorted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A path was sorted out; by rules that no longer hold, it is still to be done.
    fn sorted(&self, path: &RulePath, edition: u64) {
        let mut unsorted = self.unsorted();
        if self.edition() == edition {
            unsorted.remove(path);
        }
    }
}

/// How often the rules have changed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edition(Arc<AtomicU64>);

impl Edition {
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn next(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Worker {
    /// From now on these rules hold and no others. What lies there already is sorted out behind.
    ///
    /// # Errors
    /// `Invalid` with a sentence when a rule is wrong; then the former rules stay.
    pub fn set_rules(&self, rules: Vec<Rule>) -> Result<()> {
        let rules = Arc::new(Rules::new(rules)?);
        let known = |rule: &Rule| {
            let mount = rule.path.mount();
            mount.is_none_or(|mount| self.mounts.get(mount).is_ok())
        };
        if let Some(stranger) = rules.by_length.iter().find(|rule| !known(rule)) {
            let path = &stranger.path;
            return Err(Error::invalid(format!("rule {path}: there is no such mount")));
        }
        // One change at a time: the edition tells the former sorting to end.
        let mut now = self.rules.now.write().unwrap_or_else(PoisonError::into_inner);
        self.pages.set_classes(&rules.classes())?;
        let before = std::mem::replace(&mut *now, Arc::clone(&rules));
        self.rules.edition.next();
        self.rules.some_pass.store(rules.some_pass(), Ordering::Relaxed);
        drop(now);
        self.sort_out_behind(&[&before, &rules])
    }

    /// How each rule is used.
    pub(crate) fn rule_reports(&self) -> Vec<RuleReport> {
        let rules = self.rules.now();
        rules.by_length.iter().rev().map(|rule| self.rule_report(rule)).collect()
    }

    pub(crate) fn rule_report(&self, rule: &Rule) -> RuleReport {
        let usage = self.pages.class_usage();
        let usage = usage.into_iter().find(|usage| usage.class == rule.class());
        let usage = usage.unwrap_or_default();
        RuleReport {
            path: rule.path.to_string(),
            cache: rule.cache,
            pin_bytes: rule.pin.map(|pin| pin.0),
            priority: rule.priority,
            ttl_s: rule.ttl.map(|ttl| ttl.as_secs()),
            quota_bytes: rule.quota.map(|quota| quota.0),
            quota_files: rule.quota_files,
            resident_bytes: usage.bytes,
            resident_files: usage.files,
        }
    }

    /// Sorts out what these rules cover, and what was left when others changed, on a thread that
    /// ends with the worker or at the next change.
    pub(crate) fn sort_out_behind(&self, rules: &[&Rules]) -> Result<()> {
        let paths = {
            let mut unsorted = self.rules.unsorted();
            unsorted.extend(
                rules.iter().flat_map(|rules| &rules.by_length).map(|rule| rule.path.clone()),
            );
            unsorted.clone()
        };
        if paths.is_empty() {
            return Ok(());
        }
        let (worker, edition) = (Weak::clone(&self.this), self.rules.edition());
        let sort = move || {
            if let Err(error) = sort_out(&worker, edition, &paths) {
                tracing::warn!(%error, "what lies in the cache could not be sorted by the rules");
            }
        };
        thread::Builder::new().name("larder-rules".to_owned()).spawn(sort).map(drop).map_err(
            |error| Error::unavailable("could not start a thread for the rules").with_source(error),
        )
    }

    /// A page was kept as the rules of `edition` said; where they have changed since, its content
    /// is told what holds now, for whoever sorts may have come by before it.
    pub(crate) fn keep_to_rules(&self, path: &Path, content: ContentId, edition: u64) {
        if self.rules.edition() == edition {
            return;
        }
        if let Err(error) = self.treat(path, content, &self.rules.now()) {
            tracing::warn!(%path, %error, "what the rules say now could not be done");
        }
    }

    fn treat(&self, path: &Path, content: ContentId, rules: &Rules) -> Result<()> {
        match rules.treatment(path) {
            Treatment::Keep(class) => self.pages.classify(content, class),
            Treatment::Pass => drop(self.pages.remove(content)?),
        }
        Ok(())
    }

    /// One step: the files from `after` on, `None` when there are no more.
    fn sort_some(&self, mount: &Mount, prefix: &str, after: Option<&Key>) -> Result<Option<Key>> {
        let found = self.meta.statuses(&mount.record.name, prefix, after, STEP)?;
        let rules = self.rules.now();
        for (key, known) in &found {
            let Known { fact: Fact::Present(status), .. } = known else { continue };
            let content = mount.content_id(key, &status.version);
            let path = Path::new(mount.record.name.clone(), key.clone());
            self.treat(&path, content, &rules)?;
        }
        Ok(found.last().map(|(key, _)| key.clone()))
    }
}

fn sort_out(worker: &Weak<Worker>, edition: u64, paths: &BTreeSet<RulePath>) -> Result<()> {
    let current = || {
        let worker = worker.upgrade()?;
        (worker.rules.edition() == edition).then_some(worker)
    };
    for wait in 1.. {
        let Some(worker) = current() else { return Ok(()) };
        match worker.pages.wait_until_loaded() {
            Ok(()) => break,
            Err(error) if wait == LOAD_WAITS_MAX => return Err(error),
            Err(_) => {}
        }
    }
    let Some(worker) = current() else { return Ok(()) };
    let mounts: Vec<Arc<Mount>> = worker.mounts.all().map(Arc::clone).collect();
    drop(worker);
    for path in paths {
        let within =
            |mount: &&Arc<Mount>| path.mount().is_none_or(|name| *name == mount.record.name);
        for mount in mounts.iter().filter(within) {
            let mut after = None;
            loop {
                let Some(worker) = current() else { return Ok(()) };
                after = worker.sort_some(mount, path.key(), after.as_ref())?;
                if after.is_none() {
                    break;
                }
            }
        }
        let Some(worker) = current() else { return Ok(()) };
        worker.rules.sorted(path, edition);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str) -> Rule {
        Rule::new(path.parse().unwrap())
    }

    fn pinned(path: &str) -> Rule {
        Rule { pin: Some(ByteSize(1)), ..rule(path) }
    }

    fn found(rules: &Rules, path: &str) -> Option<String> {
        rules.find(&path.parse().unwrap()).map(|rule| rule.path.to_string())
    }

    #[test]
    fn the_longest_path_counts_alone() {
        let paths = ["/lake/a", "/", "/lake/a/b/", "/lake", "/other/a//c"];
        let rules = Rules::new(paths.map(pinned).to_vec()).unwrap();
        for (path, expected) in [
            ("/lake/a/b/c", "/lake/a/b"),
            ("/lake/a/b", "/lake/a/b"),
            ("/lake/a/b/", "/lake/a/b"),
            ("/lake/a/bc", "/lake/a"),
            ("/lake/a", "/lake/a"),
            ("/lake/ab/x", "/lake"),
            ("/lake/", "/lake"),
            ("/lakes/a/b", "/"),
            ("/other/a//c/d", "/other/a//c"),
            ("/other/a/c/d", "/"),
        ] {
            assert_eq!(found(&rules, path).as_deref(), Some(expected), "{path}");
        }
        let some = Rules::new(vec![pinned("/lake/a")]).unwrap();
        assert_eq!(found(&some, "/lake/b"), None);
        assert_eq!(some.treatment(&"/lake/b".parse().unwrap()), Treatment::Keep(Class::NONE));
    }

    #[test]
    fn a_class_is_named_by_the_path_alone() {
        let other = Rule { ttl: Some(Duration::from_secs(1)), ..rule("/lake/a/") };
        assert_eq!(pinned("/lake/a").class(), other.class());
        assert_ne!(pinned("/lake/b").class(), other.class());
        let never = Rule { cache: false, ..rule("/lake/a/tmp") };
        let rules = Rules::new(vec![other, never]).unwrap();
        assert_eq!(rules.treatment(&"/lake/a/tmp/x".parse().unwrap()), Treatment::Pass);
        assert_eq!(rules.classes().len(), 1);
    }

    #[test]
    fn what_is_wrong_is_one_sentence() {
        let quota = Some(ByteSize(0));
        let short = Rule { pin: Some(ByteSize(2)), quota: Some(ByteSize(1)), ..rule("/lake/a") };
        for (wrong, said) in [
            (vec![Rule { cache: false, ttl: Some(Duration::ZERO), ..rule("/lake") }], "nothing to"),
            (vec![Rule { quota, ..rule("/lake") }], "cache = false"),
            (vec![Rule { quota_files: Some(0), ..rule("/lake") }], "cache = false"),
            (vec![Rule { ttl: Some(Duration::ZERO), ..rule("/lake") }], "cache = false"),
            (vec![Rule { pin: quota, ..rule("/lake") }], "pins nothing"),
            (vec![short], "rule /lake/a: pins 2 B of a quota of 1 B"),
            (vec![rule("/")], "says nothing"),
            (vec![pinned("/lake/a"), pinned("/lake/a/")], "two rules are for /lake/a"),
            ((0..101).map(|at| pinned(&format!("/lake/{at}"))).collect(), "at most 100"),
        ] {
            let error = Rules::new(wrong).expect_err(said);
            assert!(error.message().contains(said) && !error.message().contains('\n'), "{error}");
        }
        for (path, said) in [("lake/a", "/MOUNT/DIRECTORY"), ("", "/MOUNT"), ("/La/x", "mount")] {
            let error = path.parse::<RulePath>().expect_err(path);
            assert!(error.message().contains(said), "{error}");
        }
        // A path without settings takes what is below it out of a longer-reaching rule.
        assert!(Rules::new(vec![pinned("/lake"), rule("/lake/plain")]).is_ok());
    }
}
