//! `repair`: what it says, and that it does nothing without a word.

use crate::common::run;
use hedgerow::hasher::by_name;
use hedgerow::{Height, Options, Store, StoreParams};
use hedgerow_hasher_api::HookedHasher;
use hedgerow_testkit::Limit;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// A store whose tree a hasher got wrong that nobody checked, or right; its root.
fn store(path: &Path, wrong: bool) -> String {
    let hooked = HookedHasher::new(by_name("cpu").expect("the CPU"), move |call, cpu| {
        call.hash(cpu)?;
        if wrong && call.is_tree() {
            call.for_each_digest(|digest| digest.0[0] ^= 1);
        }
        Ok(())
    });
    let options = Options::new().hasher(Arc::new(hooked));
    let mut store = Store::create(path, StoreParams::default(), options).expect("created");
    let mut block = store.begin_block(Height(1)).expect("the next height");
    block.put("key", "value").expect("taken");
    let root = block.commit().expect("committed").root.to_string();
    store.close().expect("closed");
    root
}

#[test]
fn a_store_is_repaired_at_a_word_and_not_without() {
    let _limit = Limit::new();
    let place = tempfile::tempdir().expect("a directory");
    let (wrong, right) = (place.path().join("wrong"), place.path().join("right"));
    let (old, new) = (store(&wrong, true), store(&right, false));
    assert_ne!(old, new);
    let wrong = wrong.to_str().expect("UTF-8");
    let repair = |more: &[&str]| run([&["repair", wrong], more].concat());
    assert!(run(["check", wrong]).fails(6).contains(&new));

    let looked = repair(&["--json"]).json();
    assert_eq!((&looked["old_root"], &looked["new_root"]), (&json!(old), &json!(new)));
    assert_eq!((&looked["needed"], &looked["repaired"]), (&json!(true), &json!(false)));
    let text = repair(&[]).ok();
    assert!(text.contains("nothing was changed"), "{text}");
    let refused = repair(&["--root", &old]).fails(4);
    assert!(refused.contains(&new) && refused.contains("nothing was changed"), "{refused}");
    repair(&["--yes", "--root", &new]).fails(2);
    run(["check", wrong]).fails(6);

    let text = repair(&["--root", &new]).ok();
    for part in [&*format!("old root      {old}"), &format!("new root      {new}"), "repaired"] {
        assert!(text.contains(part), "{text}");
    }
    let text = repair(&["--yes"]).ok();
    assert!(text.starts_with("nothing to repair at height 1"), "{text}");
    assert!(run(["check", wrong]).ok().contains(&new));
    assert_eq!(run(["get", wrong, "key"]).ok(), "value\n");
    run(["repair", place.path().to_str().expect("UTF-8"), "--yes"]).fails(9);
}
