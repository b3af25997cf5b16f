// SPDX-License-Identifier: Apache-2.0
//! The routes of the control API: parse, one call of the file system, reply.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures::StreamExt;
use http::{
    HeaderValue,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use larder_client::{
    FreeProgress, LoadProgress, ReadOptions,
    message::{
        CacheRequest, DiskReport, Explanation, FreeRequest, ListPage, ListRequest, ListStart,
        Outcome, StatRequest,
    },
};
use larder_core::{ByteRange, Error, Path, Span, Status};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Facts, Problem, StatusDocument};

/// Entries of a listing page at most, as S3 has it.
const LIST_MAX: u32 = 1_000;

/// Asks to make a file, or everything below a prefix, resident.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadBody {
    /// `/mount/key`.
    pub path: String,
}

/// Asks to drop what is resident.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreeBody {
    /// `/mount/key`.
    pub path: String,
    /// Everything whose key starts with the path's key.
    #[serde(default)]
    pub recursive: bool,
}

/// One line of the answer to a load.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadLine {
    /// How far it is.
    Progress(LoadProgress),
    /// It failed as a whole; the last line.
    Failed(Problem),
}

/// The answer to a stat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatAnswer {
    /// `/mount/key`.
    pub path: String,
    /// What the store says about the file.
    pub status: Status,
    /// How long ago the store said so.
    pub age: Duration,
    /// Whether this answer needed the store.
    pub outcome: Outcome,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathQuery {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatQuery {
    path: String,
    offset: Option<u64>,
    length: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    path: String,
    delimiter: Option<String>,
    token: Option<String>,
    max: Option<u32>,
}

pub(super) fn router(facts: Facts) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/list", get(list))
        .route("/v1/stat", get(stat))
        .route("/v1/cat", get(cat))
        .route("/v1/explain", get(explain))
        .route("/v1/load", post(load))
        .route("/v1/free", post(free))
        .route("/v1/cache", post(cache))
        .fallback(async || Problem::from(Error::not_found("the control API has no such route")))
        .with_state(facts)
}

type Asked<T> = Result<Query<T>, QueryRejection>;
type Sent<T> = Result<Json<T>, JsonRejection>;

async fn status(State(facts): State<Facts>) -> Result<Json<StatusDocument>, Problem> {
    Ok(Json(StatusDocument::gather(&facts).await?))
}

async fn list(
    State(facts): State<Facts>,
    asked: Asked<ListQuery>,
) -> Result<Json<ListPage>, Problem> {
    let query = parsed(asked)?;
    let path: Path = query.path.parse()?;
    let request = ListRequest {
        mount: path.mount,
        prefix: path.key.to_string(),
        delimiter: query.delimiter.filter(|delimiter| !delimiter.is_empty()),
        start: query.token.map_or(ListStart::Beginning, ListStart::Token),
        max: query.max.unwrap_or(LIST_MAX).clamp(1, LIST_MAX),
    };
    let reply = facts.filesystem.list(request).await?;
    Ok(Json((*reply.page).clone()))
}

async fn stat(
    State(facts): State<Facts>,
    asked: Asked<PathQuery>,
) -> Result<Json<StatAnswer>, Problem> {
    let path: Path = parsed(asked)?.path.parse()?;
    let shown = path.to_string();
    let reply = facts.filesystem.stat(StatRequest { path, attributes: true }).await?;
    let (status, age, outcome) = (reply.status, reply.age, reply.outcome);
    Ok(Json(StatAnswer { path: shown, status, age, outcome }))
}

async fn cat(State(facts): State<Facts>, asked: Asked<CatQuery>) -> Result<Response, Problem> {
    let query = parsed(asked)?;
    let path: Path = query.path.parse()?;
    let span = match (query.offset.unwrap_or(0), query.length) {
        (0, None) => Span::All,
        (start, None) => Span::From(start),
        (start, Some(length)) => Span::Range(ByteRange::new(start, start.saturating_add(length))),
    };
    let options = ReadOptions { span, ..ReadOptions::default() };
    let reading = facts.filesystem.read(&path, options).await?;
    let length = reading.head.range.map_or(0, ByteRange::length);
    // An error inside the body cuts the connection: the receiver sees fewer bytes than were
    // announced. The reason goes to the log, since it has no place in the reply any more.
    let body = reading.body.inspect(move |piece| {
        if let Err(error) = piece {
            tracing::warn!(%path, %error, "a read ended early");
        }
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    let binary = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, binary);
    Ok(response)
}

async fn explain(
    State(facts): State<Facts>,
    asked: Asked<PathQuery>,
) -> Result<Json<Explanation>, Problem> {
    let path: Path = parsed(asked)?.path.parse()?;
    Ok(Json(facts.filesystem.explain(&path).await?))
}

async fn load(State(facts): State<Facts>, sent: Sent<LoadBody>) -> Result<Response, Problem> {
    let path: Path = received(sent)?.path.parse()?;
    facts.filesystem.mount(&path.mount)?;
    let lines = facts.filesystem.load(&path).map(|progress| {
        let line = match progress {
            Ok(progress) => LoadLine::Progress(progress),
            Err(error) => LoadLine::Failed(Problem::from(error)),
        };
        Ok::<_, Infallible>(to_line(&line))
    });
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    Ok(([(CONTENT_TYPE, ndjson)], Body::from_stream(lines)).into_response())
}

async fn free(
    State(facts): State<Facts>,
    sent: Sent<FreeBody>,
) -> Result<Json<FreeProgress>, Problem> {
    let FreeBody { path, recursive } = received(sent)?;
    let path: Path = path.parse()?;
    Ok(Json(facts.filesystem.free(FreeRequest { path, recursive }).await?))
}

async fn cache(
    State(facts): State<Facts>,
    sent: Sent<CacheRequest>,
) -> Result<Json<Vec<DiskReport>>, Problem> {
    Ok(Json(facts.filesystem.cache(received(sent)?).await?))
}

fn to_line(line: &LoadLine) -> Bytes {
    let mut text = serde_json::to_vec(line).expect("these structs have only string keys");
    text.push(b'\n');
    text.into()
}

fn parsed<T: DeserializeOwned>(asked: Asked<T>) -> Result<T, Problem> {
    asked.map(|Query(value)| value).map_err(|error| Error::invalid(error.body_text()).into())
}

fn received<T>(sent: Sent<T>) -> Result<T, Problem> {
    sent.map(|Json(value)| value).map_err(|error| Error::invalid(error.body_text()).into())
}
