//! The routes.
//!
//! | | answers |
//! |---|---|
//! | `GET /root` | JSON: height, root, and how far the state is durable |
//! | `GET /value/KEY` | the value's bytes, 404 if there is none |
//! | `GET /proof/KEY` | the proof's bytes, of presence or absence |
//! | `POST /block` | JSON: height, root and counts, once the block is durable |
//!
//! Values and proofs come with the headers `hedgerow-height` and `hedgerow-root`, of the state that they are
//! about. They save a question and prove nothing: a client needs the root from where it is trusted.

use crate::writer::{Changes, Request};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hedgerow::{Digest, Error, Height, Reader};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

#[derive(Clone)]
struct App {
    reader: Reader,
    blocks: mpsc::Sender<Request>,
}

/// All routes. Bodies above 2 MB are refused, which is axum's default.
pub(crate) fn routes(reader: Reader, blocks: mpsc::Sender<Request>) -> Router {
    Router::new()
        .route("/root", get(root))
        .route("/value/{key}", get(value))
        .route("/proof/{key}", get(proof))
        .route("/block", post(block))
        .with_state(App { reader, blocks })
}

/// What went wrong, as an answer: the caller's fault or ours.
struct Failed(StatusCode, String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Refused(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl Failed {
    fn unavailable(reason: &str) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, reason.into())
    }
}

fn about(height: Height, root: Digest) -> [(&'static str, String); 2] {
    [("hedgerow-height", height.to_string()), ("hedgerow-root", root.to_string())]
}

/// On a thread that may wait for the disk.
async fn reading<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Failed> {
    match spawn_blocking(read).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(Failed::unavailable("the read was given up")),
    }
}

async fn root(State(app): State<App>) -> Response {
    // In memory, so no thread is needed.
    let (height, root) = app.reader.root();
    let durable = app.reader.durable_height().min(height);
    Json(json!({ "height": height.0, "root": root.to_string(), "durable": durable.0 }))
        .into_response()
}

async fn value(State(app): State<App>, Path(key): Path<String>) -> Result<Response, Failed> {
    reading(move || {
        // Value, height and root of one state, whatever is published meanwhile.
        let view = app.reader.view();
        let about = about(view.height(), view.root());
        Ok(match view.get(key)? {
            Some(value) => (about, value).into_response(),
            None => (StatusCode::NOT_FOUND, about).into_response(),
        })
    })
    .await
}

async fn proof(State(app): State<App>, Path(key): Path<String>) -> Result<Response, Failed> {
    reading(move || {
        let proven = app.reader.prove(key)?;
        Ok((about(proven.height, proven.root), proven.proof.into_bytes()).into_response())
    })
    .await
}

async fn block(State(app): State<App>, Json(changes): Json<Changes>) -> Result<Response, Failed> {
    let (answer, ticket) = oneshot::channel();
    let gone = || Failed::unavailable("the writer ended");
    app.blocks.send(Request { changes, answer }).await.map_err(|_| gone())?;
    let ticket = ticket.await.map_err(|_| gone())??;
    ticket.durable_async().await?;
    // It is published by now, or will be at once: the future waits where `receipt` would block.
    ticket.root_async().await?;
    let receipt = ticket.receipt()?;
    Ok(Json(json!({
        "height": receipt.height.0,
        "root": receipt.root.to_string(),
        "created": receipt.created,
        "updated": receipt.updated,
        "deleted": receipt.deleted,
    }))
    .into_response())
}
