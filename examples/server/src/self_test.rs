//! What CI runs: the server on a free port, asked by plain TCP clients, its proofs verified.
//!
//! ```text
//!   this thread ── POST /block, 20 times ──────────────► the server, in a thread of this process
//!   another one ── GET /proof/counter, all the while ──►   │
//!        └── each proof is verified; its root must be the one that was posted for its height
//! ```

use crate::{Result, serve};
use hedgerow::{Digest, Options, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;

const BLOCKS: u64 = 20;

/// Fails if an answer is not what it should be.
pub(crate) fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("state");
    let last = thread::scope(|scope| {
        let (listening, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = scope.spawn(|| {
            let listening = move |address| {
                let _ = listening.send(address);
            };
            // A free port: the system's choice. A sender that is gone stops it too.
            serve(&path, "127.0.0.1:0", listening, async { drop(stopped.await) })
        });
        // If the server ends before it listens, the sender is gone and this fails.
        let asked = address.recv().map_err(|_| "it never listened".into()).and_then(ask_all);
        drop(stop);
        match server.join() {
            Ok(Ok(())) => asked,
            Ok(Err(error)) => Err(error),
            Err(_) => Err("the server panicked".into()),
        }
    })?;
    reopened(&path, last)
}

/// The server has closed its store, and all that it said is in it.
fn reopened(path: &Path, last: Digest) -> Result<()> {
    let store = Store::open(path, Options::default())?;
    must(store.reader().root() == (store.height(), last), "the last root is that of the store")?;
    println!("closed, opened again: height {}, root {last}", store.height());
    Ok(store.close()?)
}

/// Asks for everything. Returns the last root.
fn ask_all(address: SocketAddr) -> Result<Digest> {
    let empty = ask(address, "GET", "/root", "")?.json()?;
    must(empty["height"] == 0 && empty["durable"] == 0, "a new store")?;
    must(ask(address, "GET", "/value/counter", "")?.status == 404, "no value")?;

    let mut posted = BTreeMap::new();
    let done = AtomicBool::new(false);
    let proofs = thread::scope(|scope| {
        let reading = scope.spawn(|| -> Result<Vec<Answer>> {
            let mut proofs = vec![];
            // Once more after the end: that one is about the last block.
            loop {
                let last = done.load(Ordering::Acquire);
                proofs.push(ask(address, "GET", "/proof/counter", "")?);
                if last {
                    return Ok(proofs);
                }
            }
        });
        let written = (1..=BLOCKS).try_for_each(|number| {
            let body = json!({ "put": { "counter": number.to_string(), "a key/%": "x" }, "delete": ["none"] });
            let answer = ask(address, "POST", "/block", &body.to_string())?;
            must(answer.status == 200, "a block is accepted")?;
            let answer = answer.json()?;
            must(answer["height"] == number, "heights follow each other")?;
            let root: Digest = answer["root"].as_str().ok_or("no root")?.parse()?;
            posted.insert(number, root);
            // The answer came when the block was durable.
            let now = ask(address, "GET", "/root", "")?.json()?;
            must(now["durable"].as_u64() >= Some(number), "durable")
        });
        done.store(true, Ordering::Release);
        let proofs: Result<Vec<Answer>> = reading.join().map_err(|_| "the reader panicked")?;
        written.and(proofs)
    })?;
    for answer in &proofs {
        let height: u64 = answer.header("hedgerow-height")?.parse()?;
        // The root from whom it is trusted: here, from him who posted the block. Genesis has no block.
        let root = match posted.get(&height) {
            Some(root) => *root,
            None => answer.header("hedgerow-root")?.parse()?,
        };
        let value = hedgerow_proof::verify(&root, b"counter", &answer.body)?;
        let expected = (height > 0).then(|| height.to_string().into_bytes());
        must(value == expected.as_deref(), "the proof is about the state of its height")?;
    }
    let last = proofs.last().ok_or("no proof")?.header("hedgerow-height")?;
    must(last == BLOCKS.to_string(), "the last proof is about the last block")?;
    println!("{BLOCKS} blocks posted, {} proofs verified meanwhile", proofs.len());

    let root = *posted.get(&BLOCKS).ok_or("no last block")?;
    let absent = ask(address, "GET", "/proof/none", "")?;
    must(hedgerow_proof::verify(&root, b"none", &absent.body)?.is_none(), "proved to be absent")?;
    let value = ask(address, "GET", "/value/a%20key%2F%25", "")?;
    must(value.status == 200 && value.body == b"x", "any text is a key")?;
    must(value.header("hedgerow-root")? == root.to_string(), "its root")?;

    // What is refused takes no height.
    let long = "k".repeat(256);
    for (body, status) in [
        (json!({ "put": { (long): "" } }).to_string(), 400),
        (json!({ "putt": {} }).to_string(), 422),
        ("{".into(), 400),
    ] {
        must(ask(address, "POST", "/block", &body)?.status == status, "what is wrong is refused")?;
    }
    must(ask(address, "GET", "/root", "")?.json()?["height"] == BLOCKS, "no block was made of it")?;
    Ok(root)
}

fn must(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(format!("it does not hold: {what}").into()) }
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    fn header(&self, name: &str) -> Result<&str> {
        let of = |line: &'_ str| line.split_once(": ").is_some_and(|(given, _)| given == name);
        let line = self.headers.lines().find(|line| of(line)).ok_or("a header is missing")?;
        Ok(&line[name.len() + 2..])
    }
}

/// One request on a connection of its own, which the server closes: all there is to HTTP here.
fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    // A server that hangs is an error, not an endless test.
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    let len = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: self\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|at| at == b"\r\n\r\n").ok_or("no end of the headers")?;
    let body = bytes.split_off(end + 4);
    let headers = String::from_utf8(bytes)?;
    let status = headers.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok(Answer { status, headers, body })
}
