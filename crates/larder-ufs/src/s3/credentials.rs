// SPDX-License-Identifier: Apache-2.0
//! Who we are: the AWS credential chain, cached and renewed before it expires, and the signature.
//!
//! Order: environment, profile files, single sign-on, web identity, container metadata, instance
//! metadata. The providers and the signature come from reqsign; caching is ours, because a
//! failure must be remembered for a moment (or each request would wait for a metadata service
//! that is not there) and an old credential serves on while a renewal fails. No command is run
//! (`credential_process` is not supported).
//!
//! A credential that the store refuses is compared with its source, so that one which was rotated
//! or has expired early is replaced in flight.
//!
//! What is known is behind a lock that is never held over an await; whoever loads holds another,
//! taken first, so that one load serves all who wait. Only those wait who have nothing to sign
//! with, or whose credential was refused: while one that ends soon is renewed, requests go on
//! with it. Loading is bounded.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header::AUTHORIZATION, request::Parts};
use http_body_util::{BodyExt, Full, Limited};
use larder_core::{Clock, Error, Result};
use reqsign_aws_v4::{
    Credential, DefaultCredentialProvider, ProfileCredentialProvider, RequestSigner,
};
use reqsign_core::{
    Context, HttpSend, ProvideCredential, SignRequest, SigningCredential, StaticEnv,
    time::Timestamp,
};
use reqsign_file_read_tokio::TokioFileRead;

use crate::{environment::Environment, mount::S3Config};

use super::client::Pool;

/// The whole chain gives up after this.
const LOAD_MAX: Duration = Duration::from_secs(10);
/// One request of the chain to a metadata service, which is on the same machine or link.
const METADATA_MAX: Duration = Duration::from_secs(1);
/// One request of the chain to anything else (STS, single sign-on).
const IDENTITY_MAX: Duration = Duration::from_secs(5);
/// The chain is asked once in so long: a failure is remembered, and a credential that lives for
/// less than [`RENEW_BEFORE`] or is refused by the store does not bring a load per request.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// A credential is renewed when it expires within this.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// A credential is not used when it expires within this.
const EXPIRY_MARGIN: Duration = Duration::from_secs(15);
/// Bytes of a credential reply at most.
const REPLY_MAX: usize = 1 << 20;

/// Signs requests, or leaves them alone for an anonymous mount.
pub(super) struct Signer(Option<Arc<Identity>>);

/// Who we are, and where that comes from.
struct Identity {
    provider: DefaultCredentialProvider,
    /// The credentials file that the mount names, and the profile in it.
    file: Option<PathBuf>,
    profile: String,
    context: Context,
    clock: Clock,
    cache: Mutex<Cache>,
    /// Held by whoever loads.
    loading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Cache {
    credential: Option<Arc<Credential>>,
    /// When, on the monotonic clock, the chain was last asked.
    asked_at: Option<Duration>,
    /// When a credential that the store refused was last compared with its source.
    doubted_at: Option<Duration>,
}

/// What there is to sign with.
enum Known {
    /// One that serves on for a while.
    Lasting(Arc<Credential>),
    /// One that ends soon.
    Ending(Arc<Credential>),
    Nothing,
}

impl Signer {
    pub(super) fn new(
        settings: &S3Config,
        environment: &Environment,
        pool: Pool,
        clock: Clock,
    ) -> Self {
        if settings.anonymous {
            return Self(None);
        }
        let sts = environment.first(&["AWS_ENDPOINT_URL_STS"]).and_then(|e| e.parse().ok());
        let context = Context::new()
            .with_file_read(TokioFileRead)
            .with_http_send(IdentityHttp { pool, clock: clock.clone(), sts })
            .with_env(StaticEnv {
                home_dir: environment.home().cloned(),
                envs: environment.variables().clone(),
            });
        Self(Some(Arc::new(Identity {
            provider: provider(settings, environment),
            file: settings.credentials_file.clone(),
            profile: profile_of(settings, environment).unwrap_or("default").to_owned(),
            context,
            clock,
            cache: Mutex::default(),
            loading: Arc::default(),
        })))
    }

    /// Adds the headers of Signature Version 4. The body is not part of it: bodies stream.
    pub(super) async fn sign(&self, parts: &mut Parts, region: &str) -> Result<()> {
        let Some(identity) = &self.0 else { return Ok(()) };
        let credential = identity.credential().await?;
        let spaced = collapse_spaces(&mut parts.headers);
        let signed = RequestSigner::new("s3", region)
            .sign_request(&identity.context, parts, Some(&credential), None)
            .await;
        parts.headers.extend(spaced);
        signed.map_err(|error| {
            let what = "the request can't be signed; header values must be visible ASCII";
            Error::invalid(what).with_source(error.to_string())
        })
    }

    /// The credential in use, if one has been loaded.
    pub(super) fn current(&self) -> Option<Arc<Credential>> {
        self.0.as_ref()?.cache().credential.clone()
    }

    /// Whether there is another credential than `refused`, which the store did not take: one that
    /// somebody loaded meanwhile, or what the chain gives now. What is in use stays where the
    /// chain gives nothing.
    pub(super) async fn renewed(&self, refused: &Credential) -> bool {
        let Some(identity) = &self.0 else { return false };
        if let Some(told) = identity.is_replaced(refused) {
            return told;
        }
        let _loading = identity.loading.lock().await;
        if let Some(told) = identity.is_replaced(refused) {
            return told;
        }
        let loaded = identity.load().await;
        let now = Some(identity.clock.elapsed());
        let mut cache = identity.cache();
        (cache.asked_at, cache.doubted_at) = (now, now);
        let Some(loaded) = loaded.filter(|loaded| !is_same(loaded, refused)) else { return false };
        cache.credential = Some(loaded);
        true
    }
}

impl Identity {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a refused credential was replaced; `None`: its source must be asked.
    fn is_replaced(&self, refused: &Credential) -> Option<bool> {
        let cache = self.cache();
        if cache.credential.as_ref().is_some_and(|current| !is_same(current, refused)) {
            return Some(true);
        }
        cache.doubted_at.is_some_and(|at| self.is_lately(at)).then_some(false)
    }

    fn known(&self) -> Known {
        let now = Timestamp::now();
        match &self.cache().credential {
            Some(known) if known.is_valid_at(now + RENEW_BEFORE) => {
                Known::Lasting(Arc::clone(known))
            }
            Some(known) if known.is_valid_at(now + EXPIRY_MARGIN) => {
                Known::Ending(Arc::clone(known))
            }
            _ => Known::Nothing,
        }
    }

    async fn credential(self: &Arc<Self>) -> Result<Arc<Credential>> {
        match self.known() {
            Known::Lasting(known) => return Ok(known),
            Known::Ending(known) => {
                self.renew_behind();
                return Ok(known);
            }
            Known::Nothing => {}
        }
        let _loading = self.loading.lock().await;
        match self.known() {
            Known::Lasting(known) | Known::Ending(known) => Ok(known),
            Known::Nothing if self.is_asked_lately() => Err(self.no_credentials().await),
            Known::Nothing => match self.ask().await {
                Some(known) => Ok(known),
                None => Err(self.no_credentials().await),
            },
        }
    }

    /// Renews what ends soon, in a task of its own, unless somebody loads already.
    fn renew_behind(self: &Arc<Self>) {
        if self.is_asked_lately() {
            return;
        }
        let Ok(loading) = Arc::clone(&self.loading).try_lock_owned() else { return };
        let identity = Arc::clone(self);
        tokio::spawn(async move {
            let _loading = loading;
            identity.ask().await;
        });
    }

    /// Asks the chain and keeps what it gives. Only whoever loads does that.
    async fn ask(&self) -> Option<Arc<Credential>> {
        let loaded = self.load().await;
        let mut cache = self.cache();
        cache.asked_at = Some(self.clock.elapsed());
        if let Some(credential) = &loaded {
            cache.credential = Some(Arc::clone(credential));
        }
        loaded
    }

    /// What the chain gives now, if that can be used.
    async fn load(&self) -> Option<Arc<Credential>> {
        let loaded = tokio::select! {
            loaded = self.provider.provide_credential(&self.context) => loaded.ok().flatten(),
            () = self.clock.sleep(LOAD_MAX) => None,
        };
        let usable =
            |credential: &Credential| credential.is_valid_at(Timestamp::now() + EXPIRY_MARGIN);
        loaded.filter(usable).map(Arc::new)
    }

    fn is_asked_lately(&self) -> bool {
        let asked_at = self.cache().asked_at;
        asked_at.is_some_and(|at| self.is_lately(at))
    }

    /// The sentence for a mount that has nothing to sign with.
    async fn no_credentials(&self) -> Error {
        let Some(file) = &self.file else {
            return Error::denied(
                "no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                 name a profile or a credentials file, run where a role is attached, or set \
                 anonymous = true for a public bucket",
            );
        };
        let shown = file.display();
        match tokio::fs::File::open(file).await {
            Err(error) => Error::denied(format!(
                "no AWS credentials were found: the credentials file {shown} can't be read"
            ))
            .with_source(error),
            Ok(_) => Error::denied(format!(
                "no AWS credentials were found: the credentials file {shown} has no key pair for \
                 the profile '{}'",
                self.profile
            )),
        }
    }

    fn is_lately(&self, at: Duration) -> bool {
        self.clock.elapsed().saturating_sub(at) < ASK_EVERY
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("anonymous", &self.0.is_none()).finish_non_exhaustive()
    }
}

fn is_same(one: &Credential, other: &Credential) -> bool {
    one.access_key_id == other.access_key_id
        && one.secret_access_key == other.secret_access_key
        && one.session_token == other.session_token
}

/// The signature is made over values whose runs of spaces are one space, which the library leaves
/// to us; answers the original values, to be sent.
fn collapse_spaces(headers: &mut HeaderMap) -> HeaderMap {
    let mut originals = HeaderMap::new();
    for (name, value) in headers.iter_mut() {
        if !value.as_bytes().windows(2).any(|pair| pair == b"  ") {
            continue;
        }
        let mut bytes = value.as_bytes().to_vec();
        bytes.dedup_by(|a, b| *a == b' ' && *b == b' ');
        if let Ok(collapsed) = HeaderValue::from_bytes(&bytes) {
            originals.insert(name, std::mem::replace(value, collapsed));
        }
    }
    originals
}

fn profile_of<'a>(settings: &'a S3Config, environment: &'a Environment) -> Option<&'a str> {
    settings.profile.as_deref().or(environment.first(&["AWS_PROFILE"]))
}

fn provider(settings: &S3Config, environment: &Environment) -> DefaultCredentialProvider {
    let mut builder = DefaultCredentialProvider::builder().no_process();
    let mut profile = ProfileCredentialProvider::new();
    if let Some(file) = &settings.credentials_file {
        profile = profile.with_credentials_file(file.to_string_lossy());
    }
    builder = builder.profile(profile);
    if settings.profile.is_some() || settings.credentials_file.is_some() {
        // What stands in the mount's own settings is meant more than what happens to be set.
        builder = builder.no_env();
    }
    if let Some(name) = profile_of(settings, environment) {
        builder = builder.with_profile(name);
    }
    builder.build()
}

/// The chain's own HTTP: bounded in time and size. Never logs what it carries.
#[derive(Debug)]
struct IdentityHttp {
    pool: Pool,
    clock: Clock,
    /// Where the security token service is, if not where Amazon has it.
    sts: Option<Uri>,
}

impl IdentityHttp {
    /// Turns a request for Amazon's security token service to the one that is set. One that is
    /// signed is left alone, for its host is part of the signature.
    fn redirect<B>(&self, request: &mut Request<B>) {
        let Some(sts) = &self.sts else { return };
        let named = request.uri().host().is_some_and(|host| host.starts_with("sts."));
        if !named || request.headers().contains_key(AUTHORIZATION) {
            return;
        }
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = sts.scheme().cloned();
        parts.authority = sts.authority().cloned();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

impl HttpSend for IdentityHttp {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<Response<Bytes>> {
        let failed = |what: &str| reqsign_core::Error::unexpected(what.to_owned());
        let near = request.uri().host().is_some_and(|host| host.starts_with("169.254."));
        let metadata = near || request.uri().path().starts_with("/latest/");
        let bound = if metadata { METADATA_MAX } else { IDENTITY_MAX };
        let mut request =
            request.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync());
        self.redirect(&mut request);
        let exchange = async {
            let (head, body) =
                self.pool.request(request).await.map_err(|_| "no answer")?.into_parts();
            let body =
                Limited::new(body, REPLY_MAX).collect().await.map_err(|_| "a broken body")?;
            Ok::<_, &'static str>(Response::from_parts(head, body.to_bytes()))
        };
        tokio::select! {
            reply = exchange => reply.map_err(failed),
            () = self.clock.sleep(bound) => Err(failed("no answer in time")),
        }
    }
}
