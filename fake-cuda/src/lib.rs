//! A CUDA driver without a device.
//!
//! ```text
//!  test process                                        libhedgerow_fake_cuda.so, SONAME libcuda.so
//!  ┌──────────────────────────────┐    dlopen by path  ┌────────────────────────────────────────┐
//!  │ control: FakeCuda::load ─────┼───────────────────►│ abi      cuInit, cuLaunchKernel, ...   │
//!  │                              │    then by SONAME  │ driver   contexts, streams, events     │
//!  │ cudarc, the host code ───────┼───────────────────►│ machine  grids, blocks, warps, memory  │
//!  │                              │   fail, violations │ ptx      text -> instructions          │
//!  │ control: fail_at, live ... ──┼───────────────────►│ state    one per process               │
//!  └──────────────────────────────┘                    └────────────────────────────────────────┘
//! ```
//!
//! It runs the PTX that ships, 32 lanes at a time, so that both the kernels and the host code are
//! tested as they are. It gives right answers to right programs and is as hostile as a driver may be
//! to all others:
//!
//! * Work on a stream waits until something forces it: a synchronisation, an event that is waited
//!   for. What a copy will overwrite on the host is poisoned when the copy is asked for; what it will
//!   read is compared with what was there then.
//! * Memory comes poisoned. Every access is checked: inside one live allocation, aligned.
//! * Two threads on one word, one writing, without a barrier between them: a race, in shared memory
//!   and in global memory. A barrier that not all threads of a block reach together: divergent.
//! * Freed memory is never reused, and no work may be pending on what is freed.
//! * Calls without a current context, with stale handles, with pageable memory where pinned memory
//!   is meant, or downloads into write-combined memory are refused.
//! * Any call can be made to fail by its name and count, and so can the execution of pending work.
//!
//! What it catches is printed, kept as a *violation* for the test to see, and answered with the error
//! that a real driver would give; like there, an error while executing is the last thing its context
//! does.
//!
//! **Invariant (absence):** nothing here knows what the kernels compute, and no shipped crate depends
//! on this one. Linux with glibc only: elsewhere the crate is empty.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "the driver's C interface: pointers from the caller")]
mod abi;
#[allow(unsafe_code, reason = "loads a library and calls its functions")]
pub mod control;
mod driver;
mod machine;
mod ptx;

/// A result code of the driver, as in `cuda.h`.
type Code = u32;

/// The result codes that this driver gives, with their names in `cuda.h`.
mod code {
    use super::Code;

    pub(crate) const SUCCESS: Code = 0;
    pub(crate) const INVALID_VALUE: Code = 1;
    pub(crate) const OUT_OF_MEMORY: Code = 2;
    pub(crate) const NOT_INITIALIZED: Code = 3;
    pub(crate) const NO_DEVICE: Code = 100;
    pub(crate) const INVALID_DEVICE: Code = 101;
    pub(crate) const INVALID_CONTEXT: Code = 201;
    pub(crate) const INVALID_PTX: Code = 218;
    pub(crate) const UNSUPPORTED_PTX_VERSION: Code = 222;
    pub(crate) const INVALID_HANDLE: Code = 400;
    pub(crate) const NOT_FOUND: Code = 500;
    pub(crate) const NOT_READY: Code = 600;
    pub(crate) const ILLEGAL_ADDRESS: Code = 700;
    pub(crate) const LAUNCH_TIMEOUT: Code = 702;
    pub(crate) const MISALIGNED_ADDRESS: Code = 716;
    pub(crate) const LAUNCH_FAILED: Code = 719;

    /// Name and description of a code, both ending in a zero byte.
    pub(crate) fn texts(code: Code) -> (&'static [u8], &'static [u8]) {
        match code {
            SUCCESS => (b"CUDA_SUCCESS\0", b"no error\0"),
            INVALID_VALUE => (b"CUDA_ERROR_INVALID_VALUE\0", b"invalid argument\0"),
            OUT_OF_MEMORY => (b"CUDA_ERROR_OUT_OF_MEMORY\0", b"out of memory\0"),
            NOT_INITIALIZED => (b"CUDA_ERROR_NOT_INITIALIZED\0", b"initialization error\0"),
            NO_DEVICE => (b"CUDA_ERROR_NO_DEVICE\0", b"no CUDA-capable device is detected\0"),
            INVALID_DEVICE => (b"CUDA_ERROR_INVALID_DEVICE\0", b"invalid device ordinal\0"),
            INVALID_CONTEXT => (b"CUDA_ERROR_INVALID_CONTEXT\0", b"invalid device context\0"),
            INVALID_PTX => (b"CUDA_ERROR_INVALID_PTX\0", b"a PTX JIT compilation failed\0"),
            UNSUPPORTED_PTX_VERSION => (
                b"CUDA_ERROR_UNSUPPORTED_PTX_VERSION\0",
                b"the provided PTX was compiled with an unsupported toolchain.\0",
            ),
            INVALID_HANDLE => (b"CUDA_ERROR_INVALID_HANDLE\0", b"invalid resource handle\0"),
            NOT_FOUND => (b"CUDA_ERROR_NOT_FOUND\0", b"named symbol not found\0"),
            NOT_READY => (b"CUDA_ERROR_NOT_READY\0", b"device not ready\0"),
            ILLEGAL_ADDRESS => {
                (b"CUDA_ERROR_ILLEGAL_ADDRESS\0", b"an illegal memory access was encountered\0")
            }
            LAUNCH_TIMEOUT => {
                (b"CUDA_ERROR_LAUNCH_TIMEOUT\0", b"the launch timed out and was terminated\0")
            }
            MISALIGNED_ADDRESS => (b"CUDA_ERROR_MISALIGNED_ADDRESS\0", b"misaligned address\0"),
            LAUNCH_FAILED => (b"CUDA_ERROR_LAUNCH_FAILED\0", b"unspecified launch failure\0"),
            _ => (b"CUDA_ERROR_UNKNOWN\0", b"unknown error\0"),
        }
    }
}
