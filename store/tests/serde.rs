//! Feature `serde`: what receipts, digests and figures are in JSON.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk, on};
use hedgerow::{Digest, Height, KeyHash, Receipt, ShardId, Store, StoreParams};
use hedgerow_testkit::Limit;

#[test]
fn receipts_and_figures_are_json() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let mut block = store.next_block().unwrap();
    block.put("alice", "100").unwrap();
    let receipt = block.commit().unwrap();
    let json = serde_json::to_value(receipt).unwrap();
    assert_eq!(json["height"], 1);
    assert_eq!(json["root"], receipt.root.to_string());
    assert_eq!(json["created"], 1);
    assert_eq!(serde_json::from_value::<Receipt>(json).unwrap(), receipt);

    store.flush().unwrap();
    let stats = serde_json::to_value(store.stats()).unwrap();
    assert_eq!((&stats["keys"], &stats["durable"]), (&1.into(), &1.into()));
    let hashing = &stats["steps"]["hash"];
    assert_eq!((&hashing["durations"]["count"], &hashing["failed"]), (&1.into(), &0.into()));
    let buckets = hashing["durations"]["buckets"].as_array().unwrap();
    assert!(buckets.len() == 1 && buckets[0][2] == 1, "{hashing}");
    assert!(stats["log"]["bytes"].is_u64() && stats["hasher"]["name"].is_string(), "{stats}");
    let report = serde_json::to_value(store.check().unwrap()).unwrap();
    assert!(report.is_object(), "{report}");
}

#[test]
fn digests_are_hex_and_shards_are_sixteen() {
    let digest = Digest([0xAB; 32]);
    let text = format!("{:?}", "ab".repeat(32));
    assert_eq!(serde_json::to_string(&digest).unwrap(), text);
    for text in [text.clone(), text.to_uppercase(), format!("\"0x{}\"", "ab".repeat(32))] {
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        assert_eq!(serde_json::from_str::<KeyHash>(&text).unwrap(), KeyHash([0xAB; 32]));
    }
    for wrong in ["\"\"", "\"ab\"", "7", "null", &format!("\"{}\"", "xy".repeat(32))] {
        let error = serde_json::from_str::<Digest>(wrong).unwrap_err().to_string();
        assert!(error.contains("64 hex digits"), "{error}");
    }
    assert_eq!(serde_json::to_string(&Height(7)).unwrap(), "7");
    assert_eq!(serde_json::from_str::<ShardId>("15").unwrap().index(), 15);
    let error = serde_json::from_str::<ShardId>("16").unwrap_err().to_string();
    assert!(error.contains("0 to 15"), "{error}");
}
