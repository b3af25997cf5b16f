// SPDX-License-Identifier: Apache-2.0
//! Whom we trust: the system's certificate authorities and, beside them, those of one PEM file.

use std::{error::Error as StdError, path::Path, sync::Arc};

use larder_core::{Error, Result};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// A TLS configuration for clients. A machine without any system certificates is not an error
/// here: plain HTTP needs none, and HTTPS then fails with the library's own clear sentence.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let (_, ignored) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if ignored > 0 {
        tracing::debug!(ignored, "some system certificates could not be read");
    }
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS can't be set up").with_source(error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What is wrong with the other side's certificate, where that is what `error` is about. I/O
/// errors do not tell what they hold as their source, so it is looked for inside.
pub(super) fn refused(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(rustls::Error::InvalidCertificate(what)) = error.downcast_ref() {
        return Some(what.to_string());
    }
    let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    refused(inner)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<()> {
    let shown = path.display();
    let wrong = |what: &str| Error::invalid(format!("the CA file {shown} {what}"));
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|error| wrong("can't be read").with_source(error))?;
    let mut count = 0;
    for certificate in certificates {
        let certificate =
            certificate.map_err(|error| wrong("is not a PEM file").with_source(error))?;
        roots
            .add(certificate)
            .map_err(|error| wrong("holds a certificate that can't be used").with_source(error))?;
        count += 1;
    }
    if count == 0 {
        return Err(wrong("holds no certificate; give a PEM file with at least one"));
    }
    Ok(())
}
