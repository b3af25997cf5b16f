// SPDX-License-Identifier: Apache-2.0
//! The control port: read the figures, set rules, delay and rate. Plain HTTP, JSON bodies.

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::{fault::Rule, forward::Forward};

/// The largest body the control port reads.
const BODY_MAX: usize = 1 << 20;

/// Latency and rate. What is left out stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// Milliseconds that each request waits before it goes to the origin.
    #[serde(default)]
    pub delay_ms: Option<f64>,
    /// Bytes per second in each direction, over all connections; 0 is no cap.
    #[serde(default)]
    pub bytes_per_s: Option<u64>,
}

impl Forward {
    /// Sets what `pace` names.
    pub fn set_pace(&self, pace: &Pace) -> Result<(), String> {
        if let Some(ms) = pace.delay_ms {
            let delay = Duration::try_from_secs_f64(ms / 1e3)
                .map_err(|_| format!("delay_ms {ms} is not a delay"))?;
            let us = u64::try_from(delay.as_micros()).map_err(|_| "the delay is too long")?;
            self.delay_us.store(us, Ordering::Relaxed);
        }
        if let Some(rate) = pace.bytes_per_s {
            self.down.set_rate(rate);
            self.up.set_rate(rate);
        }
        Ok(())
    }

    /// The delay and rate in force.
    pub fn pace(&self) -> Pace {
        let delay_us = Duration::from_micros(self.delay_us.load(Ordering::Relaxed));
        Pace { delay_ms: Some(delay_us.as_secs_f64() * 1e3), bytes_per_s: Some(self.down.rate()) }
    }
}

/// Answers one request of the control port.
pub async fn control(
    proxy: &Forward,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return Ok(refusal(StatusCode::BAD_REQUEST, "the body broke off or is above 1 MiB"));
    };
    let body = body.to_bytes();
    let reply = match (&head.method, head.uri.path()) {
        (&Method::GET, "/stats") => json(&proxy.counters.figures()),
        (&Method::POST, "/reset") => {
            proxy.counters.reset();
            json(&proxy.counters.figures())
        }
        (&Method::GET, "/faults") => json(&proxy.faults.list()),
        (&Method::POST, "/faults") => match serde_json::from_slice::<Vec<Rule>>(&body) {
            Ok(rules) => {
                proxy.faults.set(rules);
                json(&proxy.faults.list())
            }
            Err(error) => {
                refusal(StatusCode::BAD_REQUEST, &format!("not a list of rules: {error}"))
            }
        },
        (&Method::DELETE, "/faults") => {
            proxy.faults.set(Vec::new());
            json(&proxy.faults.list())
        }
        (&Method::GET, "/delay") => json(&proxy.pace()),
        (&Method::POST, "/delay") => {
            let pace = serde_json::from_slice::<Pace>(&body).map_err(|error| error.to_string());
            match pace.and_then(|pace| proxy.set_pace(&pace)) {
                Ok(()) => json(&proxy.pace()),
                Err(error) => refusal(StatusCode::BAD_REQUEST, &error),
            }
        }
        _ => refusal(
            StatusCode::NOT_FOUND,
            "GET /stats, POST /reset, GET POST DELETE /faults, GET POST /delay",
        ),
    };
    Ok(reply)
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    let text = serde_json::to_vec(value).expect("figures and rules are always JSON");
    let mut reply = Response::new(Full::new(text.into()));
    let kind = header::HeaderValue::from_static("application/json");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}

fn refusal(status: StatusCode, sentence: &str) -> Response<Full<Bytes>> {
    let mut reply = json(&serde_json::json!({ "error": sentence }));
    *reply.status_mut() = status;
    reply
}
