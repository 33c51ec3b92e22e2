//! Disks in memory that wait or fail.

use super::{Gate, disk};
use hedgerow::disk::Vfs;
use hedgerow_vfs::{Hook, HookedDisk, VfsCall, VfsError, VfsOp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A fresh disk that asks this before each call.
pub(crate) fn hooked(
    hook: impl Fn(&VfsCall<'_>) -> Result<(), VfsError> + Send + Sync + 'static,
) -> Arc<dyn Vfs> {
    Arc::new(HookedDisk::new(disk(), Arc::new(hook)))
}

/// A fresh disk on which such calls for the log wait at the gate.
pub(crate) fn log_waits(op: VfsOp, gate: &Arc<Gate>) -> Arc<dyn Vfs> {
    let gate = Arc::clone(gate);
    hooked(move |call| {
        if call.op == op && call.path.extension().is_some_and(|name| name == "log") {
            gate.pass();
        }
        Ok(())
    })
}

/// What a call on a disk that is [`gone_for`] some says.
pub(crate) const GONE: &str = "the disk is gone";

/// A fresh disk, and what makes such calls fail on it from then on.
pub(crate) fn gone_for(ops: &'static [VfsOp]) -> (Arc<dyn Vfs>, Arc<AtomicBool>) {
    let gone = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&gone);
    let disk = hooked(move |call| {
        if flag.load(Ordering::SeqCst) && ops.contains(&call.op) {
            return Err(call.error(std::io::Error::other(GONE)));
        }
        Ok(())
    });
    (disk, gone)
}

/// A disk that does what changes it as often as it was told to and then fails; and the counter.
pub(crate) fn stopping(inner: &Arc<dyn Vfs>) -> (Arc<dyn Vfs>, Arc<AtomicU64>) {
    let left = Arc::new(AtomicU64::new(u64::MAX));
    let counter = Arc::clone(&left);
    let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
        let changes = !matches!(call.op, VfsOp::Read | VfsOp::Len | VfsOp::Exists);
        let step = |left: u64| left.checked_sub(1);
        if changes && counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).is_err() {
            return Err(call.error(std::io::Error::other("the disk is gone")));
        }
        Ok(())
    });
    (Arc::new(HookedDisk::new(Arc::clone(inner), hook)), left)
}
