// SPDX-License-Identifier: Apache-2.0
//! Tests of the configuration as a whole.

use std::{path::Path, time::Duration};

use larder_core::{ByteSize, Freshness};
use toml::Value;

use super::{Config, Layers, Source, reference, value::Price};

fn problems(text: &str) -> String {
    let mut layers = Layers::of_defaults();
    layers.apply_text(Path::new("f.toml"), text).expect_err("this file has a mistake").to_string()
}

fn accepted(text: &str) -> Layers {
    let mut layers = Layers::of_defaults();
    layers.apply_text(Path::new("f.toml"), text).expect("this file is right");
    layers
}

#[test]
fn unknown_keys_name_file_line_and_the_nearest_right_key() {
    let text = "[s3]\nlisten = \"127.0.0.1:1\"\nanonymos = true\n";
    assert_eq!(
        problems(text),
        "f.toml:3: there is no setting 'anonymos' in [s3]; did you mean 'anonymous'?"
    );
    let text = "[[mount]]\nname = \"a\"\nuri = \"s3://abc\"\n\n[[mount]]\nname = \"b\"\n\
                url = \"s3://abc\"\n";
    let said = problems(text);
    assert!(said.contains("f.toml:7: there is no setting 'url' in [[mount]]; did you mean 'uri'?"));
    assert!(said.starts_with("f.toml:5: this [[mount]] needs uri (text)\n"), "{said}");
    assert!(problems("[mounts]\n").contains("did you mean 'mount'?"));
    assert!(problems("listen = \"x\"\n").contains("it belongs in [s3]"));
    assert!(problems("bandwidth = 1\n").contains("known here: state, memory_budget"));
}

#[test]
fn wrong_values_say_what_is_right() {
    let said = problems("memory_budget = \"10 parsecs\"\n");
    assert!(said.starts_with("f.toml:1: memory_budget (size): "), "{said}");
    assert!(said.contains("64KiB"), "{said}");
    let said = problems("[[mount]]\nname = \"a\"\nuri = \"s3://abc\"\nfreshness = \"60\"\n");
    assert!(said.starts_with("f.toml:4: mount.freshness (duration"), "{said}");
    assert!(said.contains("immutable"), "{said}");
    let said = problems("[[mount]]\nname = \"a\"\nuri = \"s3://abc\"\nprice_per_gib = -0.09\n");
    assert!(said.starts_with("f.toml:4: mount.price_per_gib (price): "), "{said}");
    assert!(problems("[http]\nlisten = 9711\n").contains("http.listen (address:port): "));
    assert!(problems("[log]\nlevel = \"loud\"\n").contains("larder_worker=debug"));
    assert!(problems("mount = 1\n").contains("write [[mount]]"));
    assert!(problems("x = \n").starts_with("f.toml:1: "));
}

#[test]
fn layers_go_over_each_other_and_say_so() {
    let mut layers = accepted(
        "memory_budget = \"1GiB\"\n[s3]\nlisten = \"127.0.0.1:1\"\n\
         [[mount]]\nname = \"lake\"\nuri = \"s3://abc\"\nfreshness = \"5m\"\n\
         stale_if_error = \"1h\"\nprice_per_million_requests = 5\nprice_per_gib = 0.09\n",
    );
    layers.set(("s3", "listen"), "127.0.0.1:2", Source::Flag).expect("legal");
    let name = |name: &str| ("name", Value::from(name));
    layers.add("mount", vec![name("lake"), ("uri", "s3://def".into())], Source::Flag).expect("ok");
    layers.add("mount", vec![name("sea"), ("uri", "s3://ghi".into())], Source::Flag).expect("ok");
    let config = Config::from_layers(&layers).expect("legal");
    assert_eq!(config.general.memory_budget, Some(ByteSize(1 << 30)));
    assert_eq!(config.s3.listen.0.port(), 2);
    assert_eq!(config.http.listen.0.port(), 9711);
    assert_eq!(config.mount.len(), 2);
    assert_eq!(config.mount[0].uri, "s3://def");
    assert_eq!(config.mount[0].freshness.0, Freshness::MaxAge(Duration::from_secs(300)));
    assert_eq!(config.mount[1].freshness.0, Freshness::default());
    let prices = |at: usize| {
        let mount = &config.mount[at];
        (mount.price_per_million_requests, mount.price_per_gib)
    };
    assert_eq!(prices(0), (Some(Price(5.0)), Some(Price(0.09))));
    assert_eq!(prices(1), (None, None));
    let shown = layers.shown();
    let source = |key: &str| {
        let found = shown.iter().find(|shown| shown.key == key);
        found.map(|shown| shown.source.clone()).expect("every key is shown")
    };
    assert_eq!(source("memory_budget"), "file, line 1");
    assert_eq!(source("s3.listen"), "flag");
    assert_eq!(source("http.listen"), "default");
    assert_eq!(source("mount[0].freshness"), "file, line 7");
    assert_eq!(source("mount[1].region"), "not set");
    assert!(layers.set(("s3", "listen"), "nowhere", Source::Flag).is_err());
}

#[test]
fn every_default_passes_its_own_check_and_everything_is_documented() {
    let mut count = 0;
    for section in Config::SECTIONS {
        assert!(!section.doc().is_empty(), "[{}] has no documentation", section.name);
        for field in section.fields {
            count += 1;
            assert!(!field.doc().is_empty(), "{} has no documentation", field.name);
            if let Some(default) = field.default {
                (field.check)(&default()).expect("a default is a legal value");
            }
        }
    }
    assert!(count < 40, "{count} settings; a new one must beat a constant with a measurement");
    assert!(reference().contains("| `listen` | address:port | `\"127.0.0.1:9710\"` |"));
}
