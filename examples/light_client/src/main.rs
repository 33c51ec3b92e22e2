//! The light client as a program.
//!
//! ```text
//!   hedgerow-light-client ROOT KEY PROOF_FILE
//!     0  the key is present: its value is printed
//!     1  the key is absent, and that is proved
//!     2  wrong arguments
//!     3  not proved: nothing is known about the key
//!     4  the file could not be read, or the answer could not be written
//! ```
//!
//! A script must not take 3 for 1: a proof that is not one says nothing.
#![forbid(unsafe_code)]

use hedgerow_light_client::{Failed, look_up, parse_root, read_proof};
use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [root, key, file] = &arguments[..] else {
        eprintln!("usage: hedgerow-light-client ROOT KEY PROOF_FILE");
        return ExitCode::from(2);
    };
    let (Some(root), Some(key)) = (root.to_str(), key.to_str()) else {
        eprintln!("error: root and key must be text");
        return ExitCode::from(2);
    };
    match run(root, key, file.as_ref()) {
        Ok(code) => code,
        Err(failed) => {
            eprintln!("error: {failed}");
            ExitCode::from(match failed {
                Failed::Root => 2,
                Failed::NotProved(_) => 3,
                Failed::File(_) => 4,
            })
        }
    }
}

fn run(root: &str, key: &str, file: &Path) -> Result<ExitCode, Failed> {
    let root = parse_root(root)?;
    let proof = read_proof(file)?;
    let Some(value) = look_up(&root, key.as_bytes(), &proof)? else {
        eprintln!("absent");
        return Ok(ExitCode::from(1));
    };
    // As it is: a value is bytes.
    let mut out = io::stdout().lock();
    let printed =
        out.write_all(value).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    Ok(if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(4) })
}
