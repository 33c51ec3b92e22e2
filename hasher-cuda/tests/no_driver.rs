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

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
#[test]
fn the_fake_driver_needs_linux_with_glibc() {
    println!("!!! NOT RUN: all other tests of this crate: the fake driver needs Linux with glibc");
}
