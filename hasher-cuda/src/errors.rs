//! Errors of the driver as values: which end a context, and what they are called.

use crate::NAME;
use cudarc::driver::DriverError;
use hedgerow_hasher_api::HashError;

/// Something was refused, by the driver or before it saw it.
pub(crate) fn refused(reason: String) -> HashError {
    HashError::Device { backend: NAME.into(), reason }
}

/// A call of the driver failed that concerns no context.
pub(crate) fn failed(call: &str, error: DriverError) -> HashError {
    refused(format!("{call}: {}", describe(error)))
}

/// Whether a context is of no use after this error (`cuda.h` says of each: "the process must be
/// terminated", "the context cannot be used", or that the device is gone).
pub(crate) fn ends_context(code: u32) -> bool {
    const DEINITIALIZED: u32 = 4;
    const ECC_UNCORRECTABLE: u32 = 214;
    const NVLINK_UNCORRECTABLE: u32 = 220;
    const ILLEGAL_ADDRESS: u32 = 700;
    const LAUNCH_TIMEOUT: u32 = 702;
    const CONTEXT_IS_DESTROYED: u32 = 709;
    const ASSERT: u32 = 710;
    const HARDWARE_STACK_ERROR: u32 = 714;
    const LAUNCH_FAILED: u32 = 719;
    const CONTAINED: u32 = 721;
    const UNKNOWN: u32 = 999;
    matches!(
        code,
        DEINITIALIZED
            | ECC_UNCORRECTABLE
            | NVLINK_UNCORRECTABLE
            | ILLEGAL_ADDRESS
            | LAUNCH_TIMEOUT
            | CONTEXT_IS_DESTROYED
            | ASSERT
            | HARDWARE_STACK_ERROR..=LAUNCH_FAILED | CONTAINED | UNKNOWN
    )
}

/// An error in the driver's words. Its number is in there because a driver newer than our bindings
/// may have more errors than they name.
pub(crate) fn describe(error: DriverError) -> String {
    let code = error.0 as u32;
    let text = |text: Result<&std::ffi::CStr, DriverError>| match text {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => "an error without a name".into(),
    };
    format!("{} ({code}), {}", text(error.error_name()), text(error.error_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_end_a_context_lose_the_device() {
        for code in [4, 700, 702, 714, 716, 719, 721, 999] {
            assert!(ends_context(code), "{code}");
        }
        for code in [1, 2, 101, 201, 304, 400, 600, 701, 713, 720] {
            assert!(!ends_context(code), "{code}");
        }
    }
}
