//! How a test process loads the driver and steers it.

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::{
    collections::BTreeMap,
    ffi::{CString, c_char},
    path::{Path, PathBuf},
};

/// The fake driver, loaded into this process: from now on whoever looks for `libcuda.so` finds it.
#[derive(Debug)]
pub struct FakeCuda {
    library: Library,
}

/// File of the driver: beside the test program, where Cargo puts what the tests depend on.
const FILE: &str = "libhedgerow_fake_cuda.so";

impl FakeCuda {
    /// Loads the driver. It stays loaded.
    ///
    /// # Errors
    /// A text, if the file is missing or cannot be loaded.
    pub fn load() -> Result<Self, String> {
        let file = file()?;
        // SAFETY: our own library; loading it runs no code of its own.
        let library = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_GLOBAL) };
        let library = library.map_err(|error| format!("{}: {error}", file.display()))?;
        // A second handle that is never closed: unloading would pull the driver from under cudarc.
        // SAFETY: as above.
        let forever = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_GLOBAL) };
        forever.map(std::mem::forget).map_err(|error| error.to_string())?;
        Ok(Self { library })
    }

    /// Becomes a driver of another version (such as 12010) with the first `devices` devices: 0 with
    /// memory pools, 1 without, 2 too old for the kernels. Nothing may live in it.
    ///
    /// # Errors
    /// A text, if the library is another one.
    pub fn configure(&self, version: u32, devices: usize) -> Result<(), String> {
        let configure = self.function::<unsafe extern "C" fn(u32, usize)>("fake_cuda_configure")?;
        // SAFETY: takes any numbers.
        unsafe { configure(version, devices) };
        Ok(())
    }

    /// Lets the `nth` call (1: the next) of `name` answer `code`. The name `execute` stands for the
    /// execution of one piece of work of a stream, which ends its context.
    ///
    /// # Errors
    /// A text, if the library is another one or the name holds a zero byte.
    pub fn fail(&self, name: &str, nth: u64, code: u32) -> Result<(), String> {
        let fail =
            self.function::<unsafe extern "C" fn(*const c_char, u64, u32)>("fake_cuda_fail")?;
        let name = CString::new(name).map_err(|error| error.to_string())?;
        // SAFETY: the name ends in a zero byte.
        unsafe { fail(name.as_ptr(), nth, code) };
        Ok(())
    }

    /// After so many calls all devices hang: no work is done any more, and calls that wait for some
    /// do not return. [`configure`](Self::configure) ends that, for the calls that come then.
    ///
    /// # Errors
    /// A text, if the library is another one.
    pub fn hang_after(&self, calls: u64) -> Result<(), String> {
        let hang = self.function::<unsafe extern "C" fn(u64)>("fake_cuda_hang_after")?;
        // SAFETY: takes any number.
        unsafe { hang(calls) };
        Ok(())
    }

    /// Forgets failures that have not happened, counts and violations.
    ///
    /// # Errors
    /// A text, if the library is another one.
    pub fn forget(&self) -> Result<(), String> {
        let forget = self.function::<unsafe extern "C" fn()>("fake_cuda_forget")?;
        // SAFETY: takes nothing.
        unsafe { forget() };
        Ok(())
    }

    /// How often each call was made.
    ///
    /// # Errors
    /// A text, if the library is another one.
    pub fn calls(&self) -> Result<BTreeMap<String, u64>, String> {
        self.report(0).map(|report| table(&report))
    }

    /// What the program did that no program may do.
    ///
    /// # Errors
    /// A text, if the library is another one.
    pub fn violations(&self) -> Result<Vec<String>, String> {
        self.report(1).map(|report| report.lines().map(str::to_owned).collect())
    }

    /// How many of each kind live, and the bytes of all pinned memory.
    ///
    /// # Errors
    /// A text, if the library is another one.
    pub fn live(&self) -> Result<BTreeMap<String, u64>, String> {
        self.report(2).map(|report| table(&report))
    }

    /// Whether a failure that was asked for has not happened.
    ///
    /// # Errors
    /// A text, if the library is another one.
    pub fn failure_pending(&self) -> Result<bool, String> {
        self.report(3).map(|report| !report.is_empty())
    }

    fn report(&self, what: u32) -> Result<String, String> {
        type Report = unsafe extern "C" fn(u32, *mut u8, usize) -> usize;
        let report = self.function::<Report>("fake_cuda_report")?;
        let mut bytes = vec![0; 1 << 16];
        // SAFETY: room for as many bytes as we say.
        let len = unsafe { report(what, bytes.as_mut_ptr(), bytes.len()) };
        bytes.truncate(len);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A function of the library, whose type the caller knows from `abi`.
    fn function<F: Copy>(&self, name: &str) -> Result<F, String> {
        // SAFETY: called with the types that `abi` declares, here in this file only.
        let function = unsafe { self.library.get::<F>(name.as_bytes()) };
        function.map(|function| *function).map_err(|error| error.to_string())
    }
}

fn table(report: &str) -> BTreeMap<String, u64> {
    let lines = report.lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect()
}

/// Cargo builds a dependency's shared library into `deps`, where test programs lie too.
fn file() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let near = program.ancestors().skip(1).take(2);
    let mut places =
        near.flat_map(|folder: &Path| [folder.join(FILE), folder.join("deps").join(FILE)]);
    places
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{FILE} is not beside {}", program.display()))
}
