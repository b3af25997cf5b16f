// SPDX-License-Identifier: Apache-2.0
//! The faces of the process: started together, watched together, stopped together.
//!
//! A face that ends by itself, or by a panic, ends the process in good order: half a Larder that
//! looks alive is worse than none.

use std::{future::Future, sync::Arc};

use larder_client::Filesystem;
use larder_core::{Error, Result};
use larder_fuse::FuseFace;
use larder_http::{ControlFace, FaceAddress, Facts, HttpSettings, PublicFace, Readiness};
use larder_s3::{Keys, S3Face};
use tokio::{runtime, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::signals::Signals;
use crate::{
    config::Config,
    credentials,
    exit::{Exit, Failure},
    state::State,
};

/// Everything that answers somebody.
pub(super) struct Faces {
    /// Where each answers.
    pub(super) addresses: Vec<FaceAddress>,
    /// The credentials file of the S3 face.
    pub(super) credentials: std::path::PathBuf,
    running: JoinSet<&'static str>,
    fuse: Option<FuseFace>,
    stopping: CancellationToken,
}

impl Faces {
    pub(super) async fn start(
        config: &Config,
        state: &State,
        filesystem: &Arc<Filesystem>,
        readiness: &Readiness,
    ) -> Result<Self, Failure> {
        let control = ControlFace::bind(&state.socket()).await?;
        let http = PublicFace::bind(HttpSettings { listen: config.http.listen.0 }).await?;
        let credentials = state.path("credentials");
        let s3 = bind_s3(config, &credentials, filesystem).await?;
        let fuse = mount_fuse(config, filesystem).await?;
        let mut addresses = vec![
            address("s3", format!("http://{}", s3.local_addr())),
            address("http", format!("http://{}", http.address())),
            address("control", control.path().display().to_string()),
        ];
        addresses.extend(
            fuse.iter().map(|fuse| address("fuse", fuse.mountpoint().display().to_string())),
        );
        let facts = Facts {
            filesystem: Arc::clone(filesystem),
            readiness: readiness.clone(),
            faces: addresses.clone(),
            version: env!("CARGO_PKG_VERSION"),
        };
        let stopping = CancellationToken::new();
        let end = || stopping.clone().cancelled_owned();
        let mut running = JoinSet::new();
        running.spawn(named("control", control.run(facts.clone(), end())));
        running.spawn(named("http", http.run(facts, end())));
        let s3 = s3.run(end());
        running.spawn(named("s3", async move {
            if let Err(error) = s3.await {
                tracing::error!(%error, "the s3 face ended");
            }
        }));
        Ok(Self { addresses, credentials, running, fuse, stopping })
    }

    /// Waits for a signal, or for a face that ends by itself, which is an error.
    pub(super) async fn until_end(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        tokio::select! {
            () = signals.next() => Ok(()),
            Some(ended) = self.running.join_next() => {
                let who = match ended {
                    Ok(name) => format!("the {name} face ended by itself"),
                    Err(error) => format!("a face failed: {error}"),
                };
                Err(Failure::new(Exit::Failed, format!("{who}; the log says why")))
            }
        }
    }

    /// Takes the mount away and lets requests under way finish; each face has its own bound.
    pub(super) async fn stop(mut self) {
        self.stopping.cancel();
        let unmounted = async {
            let Some(fuse) = self.fuse.take() else { return };
            match tokio::task::spawn_blocking(move || fuse.unmount()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "unmounting failed"),
                Err(error) => tracing::error!(%error, "unmounting panicked"),
            }
        };
        let ended = async { while self.running.join_next().await.is_some() {} };
        tokio::join!(unmounted, ended);
    }
}

async fn named(name: &'static str, face: impl Future<Output = ()>) -> &'static str {
    face.await;
    name
}

fn address(face: &str, address: String) -> FaceAddress {
    FaceAddress { face: face.to_owned(), address }
}

async fn bind_s3(
    config: &Config,
    own: &std::path::Path,
    filesystem: &Arc<Filesystem>,
) -> Result<S3Face, Failure> {
    credentials::ensure_own_pair(own)?;
    let mut keys = Keys::new();
    credentials::add_file(&mut keys, own)?;
    for file in config.s3.credentials_files.iter().flatten() {
        credentials::add_file(&mut keys, file)?;
    }
    let settings = larder_s3::Settings {
        address: config.s3.listen.0,
        anonymous: config.s3.anonymous,
        base_domains: config.s3.base_domains.clone().unwrap_or_default(),
        ..larder_s3::Settings::default()
    };
    Ok(S3Face::bind(settings, keys, Arc::clone(filesystem)).await?)
}

/// Mounting blocks, so it has a thread of its own.
async fn mount_fuse(
    config: &Config,
    filesystem: &Arc<Filesystem>,
) -> Result<Option<FuseFace>, Failure> {
    let Some(mountpoint) = config.fuse.mountpoint.clone() else { return Ok(None) };
    let filesystem = Arc::clone(filesystem);
    let handle = runtime::Handle::current();
    let (allow_other, passthrough) = (config.fuse.allow_other, config.fuse.passthrough);
    let mounted = tokio::task::spawn_blocking(move || {
        let usual = larder_fuse::Settings::default();
        let settings = larder_fuse::Settings { allow_other, passthrough, ..usual };
        FuseFace::mount(&settings, &mountpoint, filesystem, handle)
    });
    let panicked = |error| Err(Error::internal("mounting panicked").with_source(error));
    let mounted = mounted.await.unwrap_or_else(panicked);
    mounted.map(Some).map_err(|error| Failure::of_place(&error))
}
