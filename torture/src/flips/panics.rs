//! Panics anywhere in the process, on whatever thread, caught or not.

use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};

/// A panic.
#[derive(Clone, Debug)]
pub(super) struct Panic {
    /// Where and why.
    pub(super) text: String,
    /// Inside the metadata engine, whose panics become errors.
    pub(super) in_redb: bool,
}

/// Records panics while it lives. Those of the engine are kept quiet.
pub(super) struct Panics {
    seen: Arc<Mutex<Vec<Panic>>>,
}

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send>;

impl Panics {
    pub(super) fn watch() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let before: Hook = std::panic::take_hook();
        let record = Arc::clone(&seen);
        std::panic::set_hook(Box::new(move |info| {
            let in_redb = info.location().is_some_and(|place| {
                place.file().contains("/redb-") || place.file().contains("\\redb-")
            });
            if !in_redb {
                before(info);
            }
            let panic = Panic { text: info.to_string(), in_redb };
            record.lock().unwrap_or_else(PoisonError::into_inner).push(panic);
        }));
        Self { seen }
    }

    /// Those since the last time.
    pub(super) fn take(&self) -> Vec<Panic> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            drop(std::panic::take_hook());
        }
    }
}
