// SPDX-License-Identifier: Apache-2.0
//! `larder free PATH [--recursive]`.

use larder_client::FreeProgress;
use larder_core::ByteSize;
use larder_http::FreeBody;

use super::Format;
use crate::{arguments::Free, control::Control, exit::Failure, output};

pub(super) async fn run(control: Control, options: &Free, format: Format) -> Result<(), Failure> {
    let body = FreeBody { path: options.path.clone(), recursive: options.recursive };
    let freed: FreeProgress = control.post("/v1/free", &body).await?;
    if format == Format::Json {
        return output::json(&freed);
    }
    if freed.files == 0 && !options.recursive {
        let path = options.path.trim_end_matches('/');
        output::say(&format!(
            "larder: nothing is known of {path}; everything below a directory is freed by \
             `larder free --recursive {path}/`"
        ));
    }
    output::line(&format!("freed {} of {} files", ByteSize(freed.bytes), freed.files))
}
