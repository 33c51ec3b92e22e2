//! docs/durability.md says which test shows what: those tests exist, and its points are the code's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The words in back quotes in the cells of tables with this many columns; `column` from 0.
fn quoted(text: &str, columns: usize, column: usize) -> Vec<&str> {
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let rows = rows.map(|line| line.trim_matches('|').split(" | ").collect::<Vec<_>>());
    let cells = rows.filter(|row| row.len() == columns).map(|row| row[column]);
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_tests_and_points_that_durability_names_exist() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(workspace.join("docs/durability.md")).unwrap();
    let mut files = Vec::new();
    for folder in ["store/tests", "entryfile/tests", "metadb/tests"] {
        rust_files(&workspace.join(folder), &mut files);
    }
    let code: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let (_, table) = text.split_once("## What opening finds").unwrap();
    let (table, _) = table.split_once("## How it is tested").unwrap();
    let tests = quoted(table, 3, 2);
    assert!(tests.len() > 20, "{tests:?}");
    for test in tests {
        assert!(code.contains(&format!("fn {test}(")), "there is no test {test}");
    }
    let points = quoted(&text, 3, 0);
    for point in hedgerow::disk::POINTS {
        assert!(points.contains(&point), "{point:?} is not argued");
    }
    for point in points.iter().filter(|point| point.contains(": ")) {
        assert!(hedgerow::disk::POINTS.contains(point), "there is no point {point:?}");
    }
}
