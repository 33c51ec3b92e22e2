//! The driver's C interface: what `cuda.h` declares of the calls that our host code makes, and the
//! calls by which a test steers this driver.
//!
//! Nothing happens here but reading arguments and writing results.
//!
//! **Safety.** These functions are called as `cuda.h` says: pointers to results point to room for
//! them, names end in a zero byte, arrays have the length that the call implies. That is the
//! caller's promise and all that the `unsafe` here rests on; pointers that may be null are checked.

use crate::{
    Code, code,
    driver::{Arguments, Needs, State, Work, enter, with},
};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

type Pointer = *mut c_void;

/// A handle as the opaque pointer that programs see.
fn opaque(handle: u64) -> Pointer {
    std::ptr::without_provenance_mut(handle as usize)
}

fn handle(pointer: Pointer) -> u64 {
    pointer.addr() as u64
}

/// Writes a result.
///
/// # Safety
/// `to` is null or points to room for a `T`.
unsafe fn put<T>(to: *mut T, value: T) -> Result<(), Code> {
    if to.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: not null, so room for a `T`, says the caller.
    unsafe { to.write(value) };
    Ok(())
}

/// Reads a name.
///
/// # Safety
/// `from` is null or points to bytes of which one is zero.
unsafe fn text<'a>(from: *const c_char) -> Result<&'a str, Code> {
    if from.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: not null, so a string that ends, says the caller.
    let text = unsafe { CStr::from_ptr(from) };
    text.to_str().map_err(|_| code::INVALID_VALUE)
}

/// Defines a call that gives a result code.
macro_rules! calls {
    ($($needs:ident fn $name:ident($($argument:ident: $kind:ty),*) |$state:ident| $body:block)*) => {$(
        /// As `cuda.h` declares it.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($argument: $kind),*) -> Code {
            enter(stringify!($name), Needs::$needs, |$state: &mut State| $body)
        }
    )*};
}

calls! {
    Nothing fn cuDriverGetVersion(version: *mut c_int) |state| {
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(version, state.version as c_int) }
    }

    Nothing fn cuInit(flags: c_uint) |state| {
        state.initialise();
        if state.devices.is_empty() {
            return Err(code::NO_DEVICE);
        }
        if flags == 0 { Ok(()) } else { Err(code::INVALID_VALUE) }
    }

    Nothing fn cuGetErrorName(error: Code, name: *mut *const c_char) |_state| {
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(name, code::texts(error).0.as_ptr().cast()) }
    }

    Nothing fn cuGetErrorString(error: Code, text: *mut *const c_char) |_state| {
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(text, code::texts(error).1.as_ptr().cast()) }
    }

    Driver fn cuDeviceGetCount(count: *mut c_int) |state| {
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(count, state.devices.len() as c_int) }
    }

    Driver fn cuDeviceGet(device: *mut c_int, ordinal: c_int) |state| {
        state.device(ordinal)?;
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(device, ordinal) }
    }

    Driver fn cuDeviceGetName(name: *mut c_char, len: c_int, device: c_int) |state| {
        let device = state.device(device)?;
        let known = state.devices[device].model.name;
        let room = usize::try_from(len).ok().and_then(|len| len.checked_sub(1));
        let shown = room.map(|room| known.len().min(room)).ok_or(code::INVALID_VALUE)?;
        if name.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: room for `len` bytes, says the caller, and `shown + 1` is at most that.
        unsafe {
            name.copy_from_nonoverlapping(known.as_ptr().cast(), shown);
            name.add(shown).write(0);
        }
        Ok(())
    }

    Driver fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) |state| {
        let device = state.device(device)?;
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(bytes, state.devices[device].model.bytes as usize) }
    }

    Driver fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_uint, device: c_int) |state| {
        let device = state.device(device)?;
        let known = state.devices[device].model.attribute(attribute).ok_or(code::INVALID_VALUE)?;
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(value, known) }
    }

    Driver fn cuDevicePrimaryCtxRetain(context: *mut Pointer, device: c_int) |state| {
        let device = state.device(device)?;
        let retained = state.retain_context(device);
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(context, opaque(retained)) }
    }

    Driver fn cuDevicePrimaryCtxRelease_v2(device: c_int) |state| {
        let device = state.device(device)?;
        state.release_context(device)
    }

    Driver fn cuCtxGetCurrent(context: *mut Pointer) |state| {
        let current = opaque(state.current_context());
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(context, current) }
    }

    Driver fn cuCtxSetCurrent(context: Pointer) |state| {
        state.set_current(handle(context))
    }

    Context fn cuCtxSynchronize() |state| {
        state.synchronise_all()
    }

    Context fn cuModuleLoadData(module: *mut Pointer, image: *const c_char) |state| {
        // SAFETY: the caller keeps to cuda.h; an image that is PTX ends in a zero byte.
        let image = unsafe { text(image) }?;
        let loaded = state.load_module(image)?;
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(module, opaque(loaded)) }
    }

    Context fn cuModuleUnload(module: Pointer) |state| {
        state.unload_module(handle(module))
    }

    Context fn cuModuleGetFunction(
        function: *mut Pointer, module: Pointer, name: *const c_char
    ) |state| {
        // SAFETY: the caller keeps to cuda.h.
        let name = unsafe { text(name) }?;
        let found = state.function(handle(module), name)?;
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(function, opaque(found)) }
    }

    Context fn cuStreamCreate(stream: *mut Pointer, _flags: c_uint) |state| {
        let created = state.create_stream()?;
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(stream, opaque(created)) }
    }

    Context fn cuStreamDestroy_v2(stream: Pointer) |state| {
        state.destroy_stream(handle(stream))
    }

    Context fn cuStreamSynchronize(stream: Pointer) |state| {
        state.synchronise(handle(stream))
    }

    Context fn cuStreamWaitEvent(stream: Pointer, event: Pointer, _flags: c_uint) |state| {
        state.wait_for(handle(stream), handle(event))
    }

    Context fn cuEventCreate(event: *mut Pointer, _flags: c_uint) |state| {
        let created = state.create_event()?;
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(event, opaque(created)) }
    }

    Context fn cuEventRecord(event: Pointer, stream: Pointer) |state| {
        state.record(handle(event), handle(stream))
    }

    Context fn cuEventSynchronize(event: Pointer) |state| {
        state.synchronise_event(handle(event))
    }

    Context fn cuEventQuery(event: Pointer) |state| {
        state.query_event(handle(event))
    }

    Context fn cuEventDestroy_v2(event: Pointer) |state| {
        state.destroy_event(handle(event))
    }

    Context fn cuMemAlloc_v2(address: *mut u64, bytes: usize) |state| {
        let allocated = state.allocate(bytes as u64)?;
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(address, allocated) }
    }

    Context fn cuMemFree_v2(address: u64) |state| {
        state.free(address)
    }

    Context fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: Pointer) |state| {
        let allocated = state.allocate_in_order(bytes as u64, handle(stream))?;
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(address, allocated) }
    }

    Context fn cuMemFreeAsync(address: u64, stream: Pointer) |state| {
        state.owner(address)?;
        state.put(handle(stream), Work::Free { address })
    }

    Context fn cuMemHostAlloc(memory: *mut Pointer, bytes: usize, flags: c_uint) |state| {
        let pinned = state.pin(bytes, flags)?;
        // SAFETY: the caller keeps to cuda.h.
        unsafe { put(memory, std::ptr::with_exposed_provenance_mut(pinned)) }
    }

    Context fn cuMemFreeHost(memory: Pointer) |state| {
        state.unpin(memory.addr())
    }

    Context fn cuMemcpyHtoDAsync_v2(
        to: u64, from: *const c_void, len: usize, stream: Pointer
    ) |state| {
        state.put(handle(stream), Work::Upload { to, from: from.addr(), len })
    }

    Context fn cuMemcpyDtoHAsync_v2(to: Pointer, from: u64, len: usize, stream: Pointer) |state| {
        state.put(handle(stream), Work::Download { from, to: to.addr(), len })
    }

    Context fn cuLaunchKernel(
        function: Pointer,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared_bytes: c_uint,
        stream: Pointer,
        arguments: *const *const u8,
        extra: *const Pointer
    ) |state| {
        let kernel = state.kernel(handle(function))?;
        if arguments.is_null() || !extra.is_null() {
            return Err(code::INVALID_VALUE);
        }
        let mut parameters = vec![0; kernel.parameter_bytes()];
        for (i, &(offset, size)) in kernel.parameters.iter().enumerate() {
            // SAFETY: one pointer per parameter of the kernel, each to a value of its size, says
            // the caller.
            unsafe {
                let from = arguments.add(i).read();
                from.copy_to_nonoverlapping(parameters[offset..].as_mut_ptr(), size);
            }
        }
        let grid = [grid_x, grid_y, grid_z];
        let block = [block_x, block_y, block_z];
        let arguments = Arguments { grid, block, shared_bytes, parameters };
        state.launch(handle(stream), kernel, arguments)
    }
}

/// Becomes a driver of this version with so many of its devices; whatever lived in it is gone.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_configure(version: u32, devices: usize) {
    let _ = with(|state| state.configure(version, devices));
}

/// Lets the `nth` call (1: the next) of `name` answer `code`.
///
/// # Safety
/// `name` ends in a zero byte.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fake_cuda_fail(name: *const c_char, nth: u64, code: Code) {
    // SAFETY: the caller's promise.
    if let Ok(name) = unsafe { text(name) } {
        let _ = with(|state| state.fail(name.into(), nth, code));
    }
}

/// After so many calls the device hangs, until the driver is configured anew.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_hang_after(calls: u64) {
    let _ = with(|state| state.hang_after(calls));
}

/// Forgets planned failures, counts and violations.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_forget() {
    let _ = with(State::forget);
}

/// Writes a report, at most `room` bytes, and gives its length: of calls (0), violations (1), what
/// lives (2), failures that have not happened (3).
///
/// # Safety
/// `to` points to room for `room` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fake_cuda_report(what: u32, to: *mut u8, room: usize) -> usize {
    let report = with(|state| match what {
        0 => state.calls(),
        1 => state.violations(),
        2 => state.live(),
        _ => state.planned(),
    });
    let report = report.unwrap_or_else(|| "the fake driver panicked".into());
    // SAFETY: no more than there is room for.
    unsafe { to.copy_from_nonoverlapping(report.as_ptr(), report.len().min(room)) };
    report.len()
}
