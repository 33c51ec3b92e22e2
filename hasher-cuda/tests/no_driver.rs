//! Without a driver: a reason, no panic. In a program of its own, which loads no fake one.

use hedgerow_hasher_cuda::{devices, hasher};

#[test]
fn without_a_driver_there_is_a_reason() {
    match devices() {
        Ok(found) => println!("!!! NOT RUN: this machine has a driver, with {found:?}"),
        Err(error) => {
            assert_eq!(hasher(0).unwrap_err(), error);
            println!("{error}");
            assert!(error.to_string().starts_with("hash backend cuda failed: "), "{error}");
        }
    }
}
