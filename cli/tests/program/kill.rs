//! `kill -9` at random moments: whatever was acknowledged as durable is there afterwards, and what is
//! there is exactly the state after one of the blocks.
//!
//! ```text
//!   parent                                   child: hedgerow apply DIR - --ack
//!   blocks, a function of height ──stdin──►  apply, sync
//!   last acknowledged height   ◄──stdout───  durable H ROOT
//!   kill -9, at a random moment
//!   open with the library: acknowledged <= height <= sent, root and all values those of the model
//!   go on from there
//! ```
//!
//! The moment of a kill is random in three ways: after some number of acknowledgements, after some
//! number of lines sent (the pipe holds fewer than the store has in flight), or at once, while the
//! child opens the store. Every round prints what it takes to make it again, as far as a race can be
//! made again.

use crate::common::piped;
use hedgerow::{Options, Store};
use hedgerow_testkit::model::NetChangeSet;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_testkit::{Limit, Model};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::ExitStatus;
use std::thread;

/// Kills per durability mode.
const KILLS: u64 = 36;
/// Keys that the blocks choose from.
const KEYS: u64 = 700;

/// The block at a height: always the same.
fn block(height: u64) -> NetChangeSet {
    let mut draws = SplitMix64::new(height);
    let count = match draws.below(10) {
        0 => 0,
        1 => 1 + draws.below(600),
        _ => 1 + draws.below(60),
    };
    let mut op = || {
        let id = draws.below(KEYS);
        let key = id.to_be_bytes()[..].repeat(1 + (id % 5) as usize);
        let len = match draws.below(100) {
            0 => 20_000 + draws.below(40_000),
            1..20 => 0,
            _ => draws.below(200),
        };
        let byte = draws.next_u64() as u8;
        (key, (draws.below(5) > 0).then(|| vec![byte; len as usize]))
    };
    (0..count).map(|_| op()).collect()
}

/// The block as `apply` reads it.
fn line(height: u64) -> String {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold("0x".to_owned(), |mut text, byte| {
            use std::fmt::Write;
            write!(text, "{byte:02x}").expect("a string");
            text
        })
    };
    let ops: Vec<String> = block(height)
        .iter()
        .map(|(key, value)| match value {
            Some(value) => format!(r#"["put","{}","{}"]"#, hex(key), hex(value)),
            None => format!(r#"["delete","{}"]"#, hex(key)),
        })
        .collect();
    format!("{{\"height\":{height},\"ops\":[{}]}}\n", ops.join(","))
}

/// When to kill.
#[derive(Debug)]
enum Moment {
    /// After this many acknowledgements.
    Acknowledged(u64),
    /// When this many lines were sent, and nothing was waited for.
    Sent(u64),
}

/// What a child lived through.
struct Life {
    /// Last height that it acknowledged as durable; 0 if none.
    durable: u64,
    /// Root that it printed with it.
    root: String,
    /// Last height that it may have read a whole line of.
    sent: u64,
    ended: ExitStatus,
    complaints: String,
}

fn live_and_die(dir: &Path, durability: &str, from: u64, moment: &Moment) -> Life {
    let dir = dir.to_str().expect("UTF-8");
    let mut child = piped(["apply", dir, "-", "--ack", "--durability", durability]);
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut acknowledged = Vec::new();
    let mut read_one = |stdout: &mut BufReader<_>| {
        let mut text = String::new();
        let read = BufRead::read_line(stdout, &mut text).expect("a pipe");
        // A line without its end was cut off by the kill.
        let whole = text.ends_with('\n');
        if whole {
            let words: Vec<&str> = text.split_whitespace().collect();
            let ["durable", height, root] = words[..] else { panic!("not an ack: {text}") };
            acknowledged.push((height.parse::<u64>().expect("a height"), root.to_owned()));
        }
        read > 0
    };

    let mut sent = from - 1;
    match moment {
        Moment::Sent(count) => {
            for height in from..from + count {
                stdin.write_all(line(height).as_bytes()).expect("the child reads");
                sent = height;
            }
            child.kill().expect("killed");
        }
        Moment::Acknowledged(count) => {
            // Fed from a thread of its own, for the child must never wait for input.
            let feeder = thread::spawn(move || {
                for height in from.. {
                    if stdin.write_all(line(height).as_bytes()).is_err() {
                        return height;
                    }
                }
                0
            });
            let alive = (0..*count).all(|_| read_one(&mut stdout));
            if !alive {
                let output = child.wait_with_output().expect("it ended");
                let complaints = String::from_utf8_lossy(&output.stderr);
                panic!("the child ended by itself, {}: {complaints}", output.status);
            }
            child.kill().expect("killed");
            sent = feeder.join().expect("the feeder ends");
        }
    }
    // What the child wrote before it died is still in the pipe.
    while read_one(&mut stdout) {}
    let output = child.wait_with_output().expect("it died");
    for pair in acknowledged.windows(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0, "acknowledged in order");
    }
    let (durable, root) = acknowledged.pop().unwrap_or((0, String::new()));
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    Life { durable, root, sent, ended: output.status, complaints }
}

fn kill_again_and_again(durability: &str, seed: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    crate::common::run([
        "create".as_ref(),
        path.as_os_str(),
        "--compaction".as_ref(),
        "1,1,1".as_ref(),
    ])
    .ok();
    let rule = hedgerow::CompactionRule::new(1, 1, 1).expect("a rule");
    let mut model = Model::new(rule);
    let mut draws = SplitMix64::new(seed);
    let mut durable = 0;
    for round in 1..=KILLS {
        let moment = match draws.below(8) {
            0 => Moment::Sent(draws.below(3)),
            1..4 => Moment::Sent(3 + draws.below(40)),
            _ => Moment::Acknowledged(1 + draws.below(25)),
        };
        let from = model.height() + 1;
        let place =
            format!("{durability}, seed {seed}, round {round}: from {from}, kill {moment:?}");
        println!("{place}");
        let life = live_and_die(&path, durability, from, &moment);
        assert!(!life.ended.success(), "{place}");
        assert_eq!(life.complaints, "", "{place}");
        durable = durable.max(life.durable);

        let mut store =
            Store::open(&path, Options::new()).unwrap_or_else(|error| panic!("{place}: {error}"));
        let reader = store.reader();
        let (height, root) = reader.root();
        let bounds = durable..=life.sent;
        assert!(bounds.contains(&height.0), "{place}: height {height} is not in {bounds:?}");
        while model.height() < height.0 {
            let next = model.height() + 1;
            model.apply_net(next, &[block(next)]);
            if next == life.durable {
                assert_eq!(model.state_root().to_string(), life.root, "{place}: acknowledged root");
            }
        }
        assert_eq!(root, model.state_root(), "{place}: root at height {height}");
        let pairs: Vec<_> = reader.iter().collect::<Result<_, _>>().expect("readable");
        let wanted = model.iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert!(pairs.into_iter().eq(wanted), "{place}: values at height {height}");
        if round % 6 == 0 {
            let report = store.check().unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!((report.root, report.twigs_missing), (root, 0), "{place}");
        }
        store.close().unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    assert!(durable > KILLS, "the rounds got somewhere: {durable}");
}

#[test]
fn pipelined() {
    let _limit = Limit::new();
    kill_again_and_again("pipelined", 1);
}

#[test]
fn each_block() {
    let _limit = Limit::new();
    kill_again_and_again("block", 2);
}
