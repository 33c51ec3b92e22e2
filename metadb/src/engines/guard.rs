//! Where a panic inside an engine becomes an error.
//!
//! The engines return errors for what they foresee; on damaged files they also panic: redb 4 on
//! some single flipped bytes, and sled 0.34 unwraps much of what it reads. A store must not take its
//! process down for that, so every call into an engine goes through here.

use super::{Backend, Failure};
use hedgerow_types::Height;
use std::{
    any::Any,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The engine gave up in a way that is no error value.
#[derive(Debug, thiserror::Error)]
#[error("the engine panicked, most likely on a damaged file: {message}")]
struct EnginePanicked {
    message: String,
}

/// Runs `call`, a call into an engine that was `doing` something.
///
/// Unwinding out of an engine may leave it inconsistent in memory. It is used no further for
/// writing (the caller latches the first failure of a commit), and what it reads is checksummed.
pub(crate) fn guard<T>(
    doing: &'static str,
    call: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let message = message(&*payload);
        Err(Failure::of(doing)(EnginePanicked { message }))
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

/// A backend whose panics are errors.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// Always there; an option so that `drop` can be guarded too.
    backend: Option<Box<dyn Backend>>,
}

impl Guarded {
    pub(crate) fn new(backend: Box<dyn Backend>) -> Self {
        Self { backend: Some(backend) }
    }

    fn call<T>(
        &self,
        doing: &'static str,
        call: impl FnOnce(&dyn Backend) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match &self.backend {
            Some(backend) => guard(doing, || call(&**backend)),
            None => Err(Failure::of(doing)(EnginePanicked { message: "closed".to_owned() })),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let backend = self.backend.take();
        // Closing has no error to return; whatever was committed is durable already.
        let _ = guard("closing", || {
            drop(backend);
            Ok(())
        });
    }
}

impl Backend for Guarded {
    fn manifest(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.call("reading", |backend| backend.manifest())
    }

    fn history(&self, height: Height) -> Result<Option<Vec<u8>>, Failure> {
        self.call("reading", |backend| backend.history(height))
    }

    fn first_history(&self) -> Result<Option<Height>, Failure> {
        self.call("reading", |backend| backend.first_history())
    }

    fn commit(
        &self,
        manifest: &[u8],
        rows: &[(Height, Vec<u8>)],
        kept: &RangeInclusive<Height>,
    ) -> Result<(), Failure> {
        self.call("committing to", |backend| backend.commit(manifest, rows, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[derive(Debug)]
    struct Panicking;

    impl Backend for Panicking {
        fn manifest(&self) -> Result<Option<Vec<u8>>, Failure> {
            panic!("page {} is odd", 7)
        }
        fn history(&self, _: Height) -> Result<Option<Vec<u8>>, Failure> {
            panic!("history")
        }
        fn first_history(&self) -> Result<Option<Height>, Failure> {
            std::panic::panic_any(7u8)
        }
        fn commit(
            &self,
            _: &[u8],
            _: &[(Height, Vec<u8>)],
            _: &RangeInclusive<Height>,
        ) -> Result<(), Failure> {
            panic!("commit")
        }
    }

    impl Drop for Panicking {
        fn drop(&mut self) {
            panic!("drop");
        }
    }

    #[test]
    fn panics_of_an_engine_are_errors() {
        let backend = Guarded::new(Box::new(Panicking));
        let text = |failure: Failure| failure.within("test", Path::new("/db")).to_string();
        let expected = "reading the test database /db: \
            the engine panicked, most likely on a damaged file: page 7 is odd";
        assert_eq!(text(backend.manifest().unwrap_err()), expected);
        assert!(text(backend.history(Height(1)).unwrap_err()).ends_with("file: history"));
        assert!(text(backend.first_history().unwrap_err()).ends_with("file: no message"));
        let failure = backend.commit(&[], &[], &(Height(0)..=Height(0))).unwrap_err();
        assert!(text(failure).starts_with("committing to the test database"));
        drop(backend);
    }
}
