//! `coins`: blocks in, snapshots out and in, digests, proofs.

use crate::common::{Ran, program, run};
use bzip2::Compression;
use bzip2::write::BzEncoder;
use hedgerow_coins::bitcoin::consensus::encode::{serialize, serialize_hex};
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Block, OutPoint};
use hedgerow_coins::{BlockEffect, regtest};
use hedgerow_testkit::Limit;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Of the regtest chain of 100 blocks that Bitcoin Core 31.99 publishes; the MuHash is not published, an independent
/// program computed it. The amount is as Core's `gettxoutsetinfo` has it.
const PUBLISHED: &str = concat!(
    r#"{"height":100,"block":"220aee93f0f5409631f35488898258f0930952bd620063cb4d7d87f7c28a8f50","#,
    r#""coins":100,"total_amount":5000.00000000,"#,
    r#""muhash":"e3edb1ec3a51c50591e501fb0cedbd23accd3cfbe4dd057877a46760c20bcab1","#,
    r#""hash_serialized_3":"771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d"}"#,
    "\n"
);
const HASH: &str = "771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d";
const MUHASH: &str = "e3edb1ec3a51c50591e501fb0cedbd23accd3cfbe4dd057877a46760c20bcab1";
const SNAPSHOT: &str = "e8c59b1bc1f19061c67eb7a392f4ea17eea83af58646ea2909e270546699c36c";

/// A directory, in which the program's files are.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(&path, bytes).expect("written");
        path
    }

    /// `hedgerow coins ARGS`, in the directory.
    fn coins(&self, args: &[&str]) -> Ran {
        let output = program()
            .current_dir(self.0.path())
            .arg("coins")
            .args(args)
            .stdin(Stdio::null())
            .output();
        Ran::new(output.expect("the program starts"))
    }

    fn connect(&self, dir: &str, args: &[&str]) -> Value {
        self.coins(&[&["connect", dir, "--json"], args].concat()).json()
    }

    fn digest(&self, dir: &str) -> String {
        self.coins(&["digest", dir, "--json"]).ok()
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).expect("it");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.expect("a name").file_name().into_string().expect("UTF-8")
        };
        let mut names: Vec<String> = names.map(name).collect();
        names.sort();
        names
    }
}

fn chain(blocks: usize) -> Vec<Block> {
    regtest::chain().take(blocks).collect()
}

fn hex(blocks: &[Block]) -> Vec<u8> {
    blocks.iter().map(|block| serialize_hex(block) + "\n").collect::<String>().into_bytes()
}

/// As Bitcoin Core keeps them, some of them out of order, with zeros behind.
fn dat(blocks: &[Block]) -> Vec<u8> {
    let mut order: Vec<&Block> = blocks.iter().collect();
    order.chunks_mut(7).for_each(<[_]>::reverse);
    let mut bytes = Vec::new();
    for block in order {
        let block = serialize(block);
        bytes.extend(Magic::REGTEST.to_bytes());
        bytes.extend((block.len() as u32).to_le_bytes());
        bytes.extend(block);
    }
    bytes.resize(bytes.len() + 4_096, 0);
    bytes
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = BzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

#[test]
fn blocks_of_every_kind_of_file() {
    let _limit = Limit::new();
    let place = Place::new();
    let blocks = chain(100);
    place.write("lines.hex", &hex(&blocks));
    place.write("blk00000.dat", &dat(&blocks));
    place.write("lines.hex.bz2", &packed(&hex(&blocks)));
    place.write("blocks.bz2", &packed(&dat(&blocks)));
    let mask = [9, 8, 7, 6, 5, 4, 3, 255];
    let masked: Vec<u8> =
        dat(&blocks).iter().enumerate().map(|(at, byte)| byte ^ mask[at % 8]).collect();
    place.write("core/xor.dat", &mask);
    place.write("core/blk00000.dat", &masked);
    let raw: Vec<String> = blocks
        .iter()
        .enumerate()
        .map(|(number, block)| {
            place.write(&format!("raw/{number}"), &serialize(block)).display().to_string()
        })
        .collect();
    // Several at once, the last blocks first, some twice.
    place.write("last.dat", &dat(&blocks[50..]));
    place.write("first.hex", &hex(&blocks[..60]));
    let files: [&[&str]; 7] = [
        &["lines.hex"],
        &["blk00000.dat"],
        &["lines.hex.bz2"],
        &["blocks.bz2"],
        &["core/blk00000.dat"],
        &["last.dat", "first.hex"],
        &raw.iter().map(String::as_str).collect::<Vec<_>>(),
    ];
    for (number, files) in files.into_iter().enumerate() {
        let dir = format!("SET{number}");
        let report = place.connect(&dir, files);
        assert_eq!(
            (&report["blocks"], &report["created"], &report["durable"], &report["store_height"]),
            (&json!(100), &json!(100), &json!(100), &json!(1)),
            "{files:?}: {report}"
        );
        assert_eq!(place.digest(&dir), PUBLISHED, "{files:?}");
    }
    let text = place.coins(&["digest", "SET0"]).ok();
    for part in ["height             100\n", "5000.00000000 bitcoin\n", HASH, MUHASH] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn it_goes_on_after_the_last_block() {
    let _limit = Limit::new();
    let place = Place::new();
    let blocks = chain(100);
    place.write("all", &dat(&blocks));
    place.write("first", &dat(&blocks[..40]));
    place.write("rest", &hex(&blocks[45..]));
    let every: &[&str] = &["--flush-every", "7"];
    let whole = place.connect("WHOLE", &[&["all"], every].concat());
    assert_eq!((&whole["durable"], &whole["store_height"]), (&json!(98), &json!(14)), "{whole}");

    // In parts, and asked in between, which flushes nothing.
    for up_to in ["3", "7", "8", "50", "99", "100", "200"] {
        let report = place.connect("PARTS", &[&["all", "--up-to", up_to], every].concat());
        let height: u64 = up_to.parse::<u64>().expect("a number").min(100);
        assert_eq!(report["height"], json!(height), "{report}");
        place.digest("PARTS");
        let stat = place.coins(&["stat", "PARTS", "--json"]).json();
        assert_eq!(stat["height"], json!(height), "{stat}");
        assert_eq!(stat["network"], "regtest", "{stat}");
        assert_eq!(stat["durable"].as_u64(), Some(height / 7 * 7).filter(|at| *at > 0), "{stat}");
        place.coins(&["export", "PARTS", "snapshot", "--force"]).ok();
    }
    let report = place.connect("PARTS", &[&["all"], every].concat());
    assert_eq!(report["blocks"], json!(0), "{report}");
    for same in ["root", "store_height", "durable", "coins", "total_amount", "block"] {
        assert_eq!(report[same], whole[same], "{same}: {report}");
    }
    assert_eq!(place.digest("PARTS"), PUBLISHED);

    // What does not follow is left out, and said.
    place.connect("SET", &["first"]);
    let report = place.connect("SET", &["rest"]);
    assert_eq!((&report["blocks"], &report["others"]), (&json!(0), &json!(55)), "{report}");
    let said = place.coins(&["connect", "SET", "rest"]).ok();
    assert!(said.contains("no block follows the set's last one, of 55 blocks"), "{said}");
    assert_eq!(place.connect("SET", &["all"])["blocks"], json!(60));
    assert_eq!(place.digest("SET"), PUBLISHED);
    // A small file may come to anything: it has a limit.
    place.write("packed", &packed(&dat(&blocks)));
    let error = place.coins(&["connect", "BARE", "packed", "--unpack-mb", "0"]).fails(5);
    assert!(error.contains("comes to more than 0 bytes, which is the limit"), "{error}");
    // One without a MuHash has it made when somebody asks.
    place.connect("BARE", &["all", "--no-muhash"]);
    assert_eq!(place.digest("BARE"), PUBLISHED);
}

#[test]
fn snapshots_out_and_in() {
    let _limit = Limit::new();
    let place = Place::new();
    place.write("all", &dat(&chain(100)));
    let connected = place.connect("SET", &["all"]);
    let exported = place.coins(&["export", "SET", "snapshot", "--json"]).json();
    let wanted = json!({"height": 100, "block": connected["block"], "network": "regtest", "coins": 100, "bytes": 5788,
        "hash_serialized_3": HASH});
    assert_eq!(exported, wanted);
    let file = fs::read(place.path("snapshot")).expect("it");
    let sha256: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((file.len(), sha256.as_str()), (5_788, SNAPSHOT));
    let error = place.coins(&["export", "SET", "snapshot"]).fails(10);
    assert!(error.contains("exists and is not overwritten"), "{error}");
    let error = place.coins(&["export", "SET", "other", "--network", "main"]).fails(2);
    assert!(error.contains("of the network regtest, not of main"), "{error}");

    let imported = place.coins(&["import", "COPY", "snapshot", "--hash", HASH, "--json"]).json();
    for same in ["height", "block", "coins", "total_amount", "store_height", "root"] {
        assert_eq!(imported[same], connected[same], "{same}: {imported}");
    }
    assert_eq!((&imported["muhash"], &imported["network"]), (&json!(MUHASH), &json!("regtest")));
    assert_eq!(place.digest("COPY"), PUBLISHED);
    place.coins(&["export", "COPY", "again"]).ok();
    assert!(fs::read(place.path("again")).expect("it") == file);
    // Both go on the same way.
    place.write("more", &dat(&chain(120)));
    let (a, b) = (place.connect("SET", &["more"]), place.connect("COPY", &["more"]));
    assert_eq!(a, b);
    assert_eq!((&a["blocks"], &a["store_height"]), (&json!(20), &json!(2)));

    // From standard input, by its MuHash.
    let output = program()
        .current_dir(place.0.path())
        .args(["coins", "import", "PIPED", "-", "--muhash", MUHASH, "--json"])
        .stdin(File::open(place.path("snapshot")).expect("it"))
        .output();
    let piped = Ran::new(output.expect("the program starts")).json();
    assert_eq!((&piped["root"], &piped["hash_serialized_3"]), (&imported["root"], &json!(HASH)));
}

#[test]
fn a_snapshot_that_is_not_the_expected_one_leaves_nothing() {
    let _limit = Limit::new();
    let place = Place::new();
    place.write("all", &dat(&chain(100)));
    place.connect("SET", &["all"]);
    place.coins(&["export", "SET", "snapshot"]).ok();
    let file = fs::read(place.path("snapshot")).expect("it");
    let before = place.names();
    let error = place.coins(&["import", "COPY", "snapshot", "--hash", MUHASH]).fails(4);
    assert!(error.contains(&format!("is {HASH}, and {MUHASH} was expected")), "{error}");
    assert_eq!(place.names(), before);
    let both = ["import", "COPY", "snapshot", "--hash", HASH, "--muhash", HASH];
    place.coins(&both).fails(4);
    let low = ["import", "COPY", "snapshot", "--hash", HASH, "--height", "99"];
    assert!(place.coins(&low).fails(5).contains("a coin of height 100"));
    place.coins(&["import", "COPY", "snapshot"]).fails(2);
    place.coins(&["import", "COPY", "snapshot", "--hash", "771d"]).fails(2);
    place.coins(&["import", "COPY", "nowhere", "--hash", HASH]).fails(8);
    assert_eq!(place.names(), before);
    for end in [0, 20, 51, 1_000, file.len() - 1] {
        place.write("cut", &file[..end]);
        let error = place.coins(&["import", "COPY", "cut", "--hash", HASH]).fails(5);
        assert!(error.contains("byte"), "{error}");
        assert!(!place.path("COPY").exists());
    }
    // An empty directory stays one; what is there stays what it is.
    fs::create_dir(place.path("EMPTY")).expect("made");
    place.coins(&["import", "EMPTY", "snapshot", "--hash", MUHASH]).fails(4);
    assert_eq!(fs::read_dir(place.path("EMPTY")).expect("it").count(), 0);
    let error = place.coins(&["import", "SET", "snapshot", "--hash", HASH]).fails(10);
    assert!(error.contains("is not empty"), "{error}");
    assert_eq!(place.digest("SET"), PUBLISHED);
}

#[test]
fn proofs_of_coins() {
    let _limit = Limit::new();
    let place = Place::new();
    let blocks = chain(100);
    place.write("all", &dat(&blocks));
    let root = place.connect("SET", &["all"])["root"].clone();
    let root = root.as_str().expect("a root");
    let effect = BlockEffect::of(&blocks[41], 42).expect("a block");
    let (there, coin) = &effect.created[0];
    for (outpoint, present) in [(*there, true), (OutPoint { vout: 1, ..*there }, false)] {
        let name = outpoint.to_string();
        let proven =
            place.coins(&["prove", "SET", &name, "-o", "proof", "--force", "--json"]).json();
        assert_eq!((&proven["present"], &proven["root"]), (&json!(present), &json!(root)));
        assert_eq!((&proven["outpoint"], &proven["height"]), (&json!(name), &json!(100)));
        let wanted = json!({"height": 42, "coinbase": true, "amount": 50.0, "script": coin.script().to_hex_string()});
        assert_eq!(proven["coin"], if present { wanted } else { Value::Null });
        let key = proven["key"].as_str().expect("a key");
        let file = place.path("proof").display().to_string();
        let said = run(["verify", "--root", root, "--key", key, &file, "--json"]).json();
        assert_eq!((&said["present"], &said["value"]), (&json!(present), &proven["value"]));
    }
    let text = place.coins(&["prove", "SET", &there.to_string()]).ok();
    assert!(text.starts_with("present: 50.00000000 bitcoin of block 42, of a coinbase"), "{text}");
    place.coins(&["prove", "SET", "42"]).fails(2);
}

#[test]
fn what_cannot_be_says_why() {
    let _limit = Limit::new();
    let place = Place::new();
    let blocks = chain(60);
    for command in [&["digest", "SET"][..], &["stat", "SET"], &["export", "SET", "file"]] {
        let error = place.coins(command).fails(9);
        assert!(error.contains("there is no set of coins in SET"), "{error}");
        assert!(!place.path("SET").exists() && !place.path("file").exists());
    }
    place.coins(&["connect", "SET", "nowhere"]).fails(8);
    place.write("text", b"this is no block");
    place.coins(&["connect", "SET", "text"]).fails(5);
    assert!(!place.path("SET").exists());
    // A block of no known chain.
    place.write("lost", &hex(&blocks[30..31]));
    let error = place.coins(&["connect", "SET", "lost"]).fails(2);
    assert!(error.contains("--network") && !place.path("SET").exists(), "{error}");
    let error = place.coins(&["connect", "SET", "--network", "main", "text2"]).fails(8);
    assert!(error.contains("text2"), "{error}");

    // A damaged block: what comes before it is kept.
    let mut bytes: Vec<u8> =
        blocks[..50].iter().flat_map(|block| dat(std::slice::from_ref(block))).collect();
    let last = serialize(&blocks[49]).len();
    let end = bytes.len() - 4_096;
    bytes[end - last + 150] ^= 1;
    place.write("damaged", &bytes);
    let error = place.coins(&["connect", "SET", "damaged"]).fails(5);
    assert!(
        error.contains("stopped after 49 blocks; the store is durable at height 49"),
        "{error}"
    );
    place.write("whole", &dat(&blocks));
    let report = place.connect("SET", &["whole"]);
    assert_eq!((&report["blocks"], &report["height"]), (&json!(11), &json!(60)), "{report}");

    // The set is of one network.
    let error = place.coins(&["connect", "SET", "whole", "--network", "signet"]).fails(2);
    assert!(error.contains("of the network regtest, not of signet"), "{error}");
    place.write("raw", &serialize(&blocks[7]));
    let error = place.coins(&["connect", "SET", "raw", "--network", "signet"]).fails(5);
    assert!(error.contains("magic"), "{error}");
    // Somebody else has it open.
    let held = hedgerow::Store::open(place.path("SET/store"), hedgerow::Options::new());
    place.coins(&["digest", "SET"]).fails(7);
    drop(held);
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_connected() {
    use crate::common::piped;
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let _limit = Limit::new();
    let place = Place::new();
    let blocks = chain(40_000);
    let file = place.write("all", &dat(&blocks));
    let dir = place.path("SET");
    let (dir_text, file_text) = (dir.display().to_string(), file.display().to_string());
    let args = ["coins", "connect", &dir_text, &file_text, "--json"];
    let child = piped(args);
    let records = dir.join("blocks");
    let begun = |records: &Path| {
        let bytes = |entry: fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
        fs::read_dir(records).is_ok_and(|names| names.flatten().map(bytes).sum::<u64>() > 4_096)
    };
    while !begun(&records) {
        std::thread::yield_now();
    }
    let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
    kill(pid, Signal::SIGINT).expect("it lives");
    let ran = Ran::new(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(130), "{ran:?}");
    let said: Value = serde_json::from_str(&ran.stderr).expect("an object");
    let height = said["stopped"]["height"].as_u64().expect("a height");
    assert!(height > 0 && height < 40_000, "{said}");
    let stat = place.coins(&["stat", "SET", "--json"]).json();
    assert_eq!((&stat["height"], &stat["durable"]), (&json!(height), &json!(height)), "{stat}");
    let report = place.connect("SET", &["all"]);
    assert_eq!((&report["blocks"], &report["height"]), (&json!(40_000 - height), &json!(40_000)));
}

/// A file of the folder with real blocks: `HEDGEROW_BITCOIN_DATA`, else `shared/data/bitcoin` beside the workspace.
fn real(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/bitcoin");
    let folder = std::env::var_os("HEDGEROW_BITCOIN_DATA").map_or(beside, PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    println!("!!! NOT RUN: there is no {}; HEDGEROW_BITCOIN_DATA names its folder", path.display());
    None
}

#[test]
fn mainnet_and_segwit_blocks() {
    let _limit = Limit::new();
    let rows = [
        (
            "blocks1-256.bz2",
            255,
            260,
            "60e29020ee287387a5b311fa9d665e232d41fb14f6243342cf1bdd967cc82117",
            "507108bd18e2319f0a7102cfa1c7ffea10c9b1a47ff061d8098bc51a92e40241",
        ),
        (
            "blocks1-256.bz2",
            170,
            171,
            "b497ee695f714fb45632085fda981c5828816d0e181d55be45227654db948e30",
            "7105b60f83d299f471759ec2c7900a2f15b61573b94dea3c94060e925fcf1417",
        ),
        (
            "regtest206.txt",
            206,
            230,
            "99fe6181ed22d50f27486264ed5d1f538c9343042db64a088248bcc9912a869a",
            "6f596a9fb79023e72ac6c2423e9dff4991f49994c0a55d1a2124ce03a98e9d74",
        ),
    ];
    for (number, (name, height, coins, muhash, hash)) in rows.into_iter().enumerate() {
        let Some(file) = real(name) else { continue };
        let place = Place::new();
        let (file, up_to) = (file.display().to_string(), height.to_string());
        let connected = place.connect("SET", &[&file, "--up-to", &up_to]);
        let digest = place.digest("SET");
        let digest: Value = serde_json::from_str(&digest).expect("an object");
        assert_eq!(
            (&digest["height"], &digest["coins"], &digest["muhash"], &digest["hash_serialized_3"]),
            (&json!(height), &json!(coins), &json!(muhash), &json!(hash)),
            "row {number}: {digest}"
        );
        place.coins(&["export", "SET", "snapshot"]).ok();
        let copy = place.coins(&["import", "COPY", "snapshot", "--hash", hash, "--json"]).json();
        for same in ["height", "block", "coins", "total_amount", "store_height", "root"] {
            assert_eq!(copy[same], connected[same], "row {number}, {same}: {copy}");
        }
        let of_copy: Value = serde_json::from_str(&place.digest("COPY")).expect("an object");
        assert_eq!(of_copy, digest, "row {number}");
        println!("TESTED {name} after {height} blocks");
    }
}
