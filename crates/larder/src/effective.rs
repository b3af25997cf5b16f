// SPDX-License-Identifier: Apache-2.0
//! From the command line, the environment and the file to one configuration.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use larder_core::{ByteSize, Error, Result};
use toml::Value;

use crate::{
    arguments::{Everywhere, Origins, Overrides},
    config::{Config, Layers},
};

/// The configuration with its layers and the directory of the state.
#[derive(Debug)]
pub(crate) struct Effective {
    /// Typed.
    pub(crate) config: Config,
    /// Where each value came from.
    pub(crate) layers: Layers,
    /// The file that was read, if there was one.
    pub(crate) file: Option<PathBuf>,
    /// The state directory.
    pub(crate) state: PathBuf,
}

impl Effective {
    /// Reads the file and puts the environment and the flags over it.
    ///
    /// # Errors
    /// `Invalid`, a sentence for each mistake.
    pub(crate) fn gather(
        everywhere: &Everywhere,
        overrides: Option<&Overrides>,
        origins: &Origins,
    ) -> Result<Self> {
        let mut layers = Layers::of_defaults();
        let file = everywhere.config.clone().or_else(file_of_user);
        if let Some(file) = &file {
            layers.apply_file(file)?;
        }
        if let Some(state) = &everywhere.state {
            layers.set(("", "state"), text(state)?, origins.of("state"))?;
        }
        if let Some(level) = &everywhere.log {
            layers.set(("log", "level"), level.as_str(), origins.of("log"))?;
        }
        if let Some(overrides) = overrides {
            apply(&mut layers, overrides, origins)?;
        }
        let config = Config::from_layers(&layers)?;
        let (s3, http) = (config.s3.listen.0, config.http.listen.0);
        if s3 == http && s3.port() != 0 {
            return Err(Error::invalid(format!(
                "s3.listen and http.listen are both {s3}; give each its own port"
            )));
        }
        let state = config.general.state.clone().map_or_else(state_of_user, Ok)?;
        Ok(Self { config, layers, file, state })
    }
}

fn apply(layers: &mut Layers, overrides: &Overrides, origins: &Origins) -> Result<()> {
    if let Some(address) = &overrides.s3 {
        layers.set(("s3", "listen"), address.as_str(), origins.of("s3"))?;
    }
    if let Some(address) = &overrides.http {
        layers.set(("http", "listen"), address.as_str(), origins.of("http"))?;
    }
    if let Some(directory) = &overrides.fuse {
        layers.set(("fuse", "mountpoint"), text(directory)?, origins.of("fuse"))?;
    }
    let mut mounts = BTreeSet::new();
    for mount in &overrides.mount {
        let (name, uri) = mount.split_once('=').ok_or_else(|| {
            Error::invalid(format!(
                "--mount {mount}: write NAME=URI, such as lake=s3://bucket or data=file:///srv"
            ))
        })?;
        if !mounts.insert(name) {
            return Err(Error::invalid(format!(
                "--mount {mount}: {name} is given twice; give each mount its own name"
            )));
        }
        let values = vec![("name", Value::from(name)), ("uri", Value::from(uri))];
        layers.add("mount", values, origins.of("mount"))?;
    }
    if !overrides.cache.is_empty() {
        layers.clear("cache");
    }
    let mut caches = BTreeSet::new();
    for cache in &overrides.cache {
        let values = cache_values(cache)?;
        let path = values.first().map(|(_, path)| path.to_string());
        if !caches.insert(path) {
            return Err(Error::invalid(format!(
                "--cache {cache}: the directory is given twice; give each once, with all it may \
                 hold"
            )));
        }
        layers.add("cache", values, origins.of("cache"))?;
    }
    Ok(())
}

/// `DIR` or `DIR:SIZE`. What stands behind the last colon is meant as a size if it begins with a
/// digit and holds no slash; other colons belong to the directory's name.
fn cache_values(argument: &str) -> Result<Vec<(&'static str, Value)>> {
    let split = argument.rsplit_once(':').filter(|(_, size)| {
        size.starts_with(|first: char| first.is_ascii_digit()) && !size.contains('/')
    });
    let Some((path, size)) = split else { return Ok(vec![("path", Value::from(argument))]) };
    size.parse::<ByteSize>().map_err(|error| error.context(format!("--cache {argument}")))?;
    Ok(vec![("path", Value::from(path)), ("size", Value::from(size))])
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::invalid(format!("the path {} is not UTF-8; choose another", path.display()))
    })
}

fn file_of_user() -> Option<PathBuf> {
    let directory = base_directory("XDG_CONFIG_HOME", ".config")?;
    Some(directory.join("larder/larder.toml")).filter(|file| file.exists())
}

fn state_of_user() -> Result<PathBuf> {
    let directory = base_directory("XDG_STATE_HOME", ".local/state").ok_or_else(|| {
        Error::invalid("there is no home directory to keep the state in; name one with --state")
    })?;
    Ok(directory.join("larder"))
}

/// An XDG base directory: relative values are ignored, as the specification says.
fn base_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| Some(std::env::home_dir()?.join(below_home)))
}

#[cfg(test)]
mod tests {
    use super::cache_values;

    #[test]
    fn a_colon_is_a_size_only_if_one_follows() {
        assert_eq!(cache_values("/a:10GiB").unwrap().len(), 2);
        assert_eq!(cache_values("/a:b").unwrap().len(), 1);
        assert_eq!(cache_values("/a").unwrap().len(), 1);
        assert!(cache_values("/a:10parsec").is_err(), "a wrong unit is said");
    }
}
