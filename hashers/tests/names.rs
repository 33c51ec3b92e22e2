//! Names of backends: what they give, and why they give nothing.

use hedgerow_hashers::{BackendError, DEFAULT, available, by_name, names};

#[test]
fn every_usable_name_gives_a_backend_and_every_other_a_reason() {
    for backend in available() {
        match (by_name(&backend.name), &backend.why_not) {
            (Ok(_), None) => {}
            (Err(BackendError::Unavailable { name, reason }), Some(why_not)) => {
                assert_eq!(name, backend.name);
                assert!(reason.contains(why_not.as_str()), "{reason}");
            }
            (given, why_not) => panic!("{}: {why_not:?}, {given:?}", backend.name),
        }
    }
    assert!(names().iter().any(|name| name == DEFAULT));
}

#[test]
fn a_name_that_means_nothing_is_refused_with_those_that_do() {
    for name in ["", "CPU", "cpu2", "gpu", ":", "\u{0}"] {
        let error = by_name(name).unwrap_err();
        assert_eq!(error, BackendError::Unknown { name: name.into(), usable: names() });
        assert_eq!(error.to_string(), format!("{name:?} is none of {}", names().join(", ")));
    }
    for name in ["cpu:", "cpu:abacus", "scalar:1", "auto:x"] {
        let error = by_name(name).unwrap_err();
        assert!(matches!(error, BackendError::Unavailable { .. }), "{name}: {error:?}");
    }
}
