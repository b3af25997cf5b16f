// SPDX-License-Identifier: Apache-2.0
//! nginx as the raw reference: one process, which serves static files by sendfile, or passes on
//! what another server sends.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};

use super::{child::Server, wait::free_address};

/// Where Debian puts it, outside the PATH of ordinary users.
const BINARY: &str = "/usr/sbin/nginx";

/// A running nginx; it ends when dropped.
#[derive(Debug)]
pub struct Nginx {
    /// The process.
    pub server: Server,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Nginx {
    /// Serves the files of `root`; its own files go to `folder`.
    pub fn start(root: &Path, folder: &Path) -> Result<Self> {
        Self::run(folder, "", &format!("root {};", root.display()))
    }

    /// Passes requests on to the server at `to` and its replies back, as they come: no cache, no
    /// buffers on disk, connections kept. The host that was asked for is passed on too, for
    /// signatures cover it.
    pub fn passing_on(to: SocketAddr, folder: &Path) -> Result<Self> {
        let upstream = format!("upstream store {{ server {to}; keepalive 64; }}");
        let location = "location / { proxy_pass http://store; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_set_header Host $http_host; \
             proxy_buffering off; proxy_cache off; }";
        Self::run(folder, &upstream, location)
    }

    fn run(folder: &Path, beside: &str, inside: &str) -> Result<Self> {
        let address = free_address()?;
        let config = folder.join("nginx.conf");
        fs::write(&config, configuration(folder, address, (beside, inside)))?;
        let mut command = Command::new(BINARY);
        command.arg("-p").arg(folder).arg("-c").arg(&config);
        let mut server = Server::start("nginx", &mut command, folder)
            .context("the reference needs nginx: apt-get install nginx-light")?;
        server.wait_listening(address, Duration::from_secs(10))?;
        Ok(Self { server, address })
    }
}

/// Master and worker in one process, so that its CPU time is one figure.
fn configuration(folder: &Path, address: SocketAddr, (beside, inside): (&str, &str)) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; user root;\n\
         pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;\n\
           keepalive_requests 1000000000; keepalive_timeout 1h;\n\
           default_type application/octet-stream;\n\
           client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;\n\
           fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;\n\
           scgi_temp_path {folder}/t5;\n\
           {beside}\n\
           server {{ listen {address}; {inside} }}\n\
         }}\n"
    )
}
