//! A store behind HTTP, with tokio and axum: readers never wait for the writer, nor it for them.
//!
//! ```text
//!   GET /root, /value/KEY, /proof/KEY ──► spawn_blocking ──► Reader, a clone      (api.rs)
//!
//!   POST /block ──► channel ──► writer: one thread, owns the Store               (writer.rs)
//!        ▲                         │ submit, and on to the next block
//!        └── durable_async ◄── ticket: the answer waits for the disk, no thread does
//! ```
//!
//! What to copy: [`writer`], and the handlers of [`api`]. A read may touch the disk, so it goes to a thread that
//! may block; a block is submitted on the writer's own thread, since that may wait while too many are on their way.
//!
//! ```text
//!   hedgerow-example-server DIRECTORY ADDRESS      serves until Ctrl-C, then closes the store
//!   hedgerow-example-server --self-test            a store of its own, asks itself, checks the answers, ends
//! ```
#![forbid(unsafe_code)]

mod api;
mod self_test;
mod writer;

use hedgerow::{Options, Store, StoreParams};
use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let ended = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--self-test"] => self_test::run(),
        [directory, address] => serve_until_interrupted(directory.as_ref(), address),
        _ => Err("usage: hedgerow-example-server DIRECTORY ADDRESS | --self-test".into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve_until_interrupted(directory: &Path, address: &str) -> Result<()> {
    serve(directory, address, |address| println!("listening on {address}"), async {
        // Without a handler for it the process just ends: then the next opening recovers.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Serves until `stop` ends and those who asked before have their answers. Then the writer finishes what it
/// was given, and closes the store.
fn serve(
    directory: &Path,
    address: &str,
    listening: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let store = Store::open_or_create(directory, StoreParams::default(), Options::default())?;
    let reader = store.reader();
    let (blocks, writer) = writer::start(store)?;
    let served = Runtime::new()?.block_on(async {
        let listener = TcpListener::bind(address).await?;
        listening(listener.local_addr()?);
        // The routes own the channel's only sender: when they are gone, the writer ends.
        let routes = api::routes(reader, blocks);
        axum::serve(listener, routes).with_graceful_shutdown(stop).await
    });
    let closed = writer.join().map_err(|_| "the writer panicked")?;
    served?;
    Ok(closed?)
}
