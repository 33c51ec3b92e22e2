//! A few kills: `torture kill` at the size of a test.

use hedgerow_torture::process::kill::{self, Figures, Limit};
use hedgerow_torture::process::talk::Program;
use std::path::PathBuf;

#[test]
fn nothing_is_lost_by_a_few_kills() {
    let seed = 7;
    println!("seed {seed}: torture kill --seed {seed}");
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kills");
    std::fs::create_dir_all(&dir).unwrap();
    let program = Program::at(PathBuf::from(env!("CARGO_BIN_EXE_torture")));
    let mut figures = Figures::default();
    kill::run(&program, &dir, seed, Limit::Kills(6), &mut figures)
        .unwrap_or_else(|failure| panic!("{failure}"));
    println!("{figures}");
    assert!(figures.durable > 20 && figures.compared > 2, "the children got somewhere: {figures}");
}
