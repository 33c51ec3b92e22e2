//! The program in the README: it is the one that is compiled here, and it runs, and runs again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

/// What the README shows.
mod program {
    include!("readme/program.rs");

    pub(super) fn run() {
        main().unwrap();
    }
}

#[test]
fn the_program_in_the_readme_runs_twice() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(workspace.join("README.md")).unwrap();
    let shown = format!("```rust\n{}```\n", include_str!("readme/program.rs"));
    assert!(
        readme.contains(&shown),
        "README.md shows another program than tests/readme/program.rs"
    );
    // The only test of this process: it may go elsewhere.
    let dir = tempfile::tempdir().unwrap();
    std::env::set_current_dir(dir.path()).unwrap();
    program::run();
    program::run();
    let store = hedgerow::Store::open("state", hedgerow::Options::default()).unwrap();
    assert_eq!(store.height(), hedgerow::Height(2));
}
