//! What the system lets this process have.
//!
//! Limits that are met in the middle of the work end it, some of them in an abort: whoever needs much
//! asks first. Everything here is `None` where it cannot be found out, and where there is no limit.

/// Files that the process may have open at a time (`ulimit -n`).
pub fn open_files() -> Option<u64> {
    os::open_files()
}

/// Bytes of address space that the process may still take (`ulimit -v`).
pub fn address_space_left() -> Option<u64> {
    let limit = os::address_space()?;
    Some(limit.saturating_sub(address_space_taken().unwrap_or(0)))
}

/// Bytes of address space that the process has taken.
fn address_space_taken() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(unix)]
mod os {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

    #[allow(clippy::unnecessary_cast, reason = "it is as wide as a machine word on some systems")]
    fn soft(resource: Resource) -> Option<u64> {
        let (soft, _) = getrlimit(resource).ok()?;
        (soft != RLIM_INFINITY).then_some(soft as u64)
    }

    pub(super) fn open_files() -> Option<u64> {
        soft(Resource::RLIMIT_NOFILE)
    }

    #[cfg(not(target_os = "openbsd"))]
    pub(super) fn address_space() -> Option<u64> {
        soft(Resource::RLIMIT_AS)
    }

    #[cfg(target_os = "openbsd")]
    pub(super) fn address_space() -> Option<u64> {
        None
    }
}

#[cfg(not(unix))]
mod os {
    pub(super) fn open_files() -> Option<u64> {
        None
    }

    pub(super) fn address_space() -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_takes_some_address_space() {
        assert!(super::address_space_taken().is_some_and(|bytes| bytes > 1 << 20));
        assert!(super::open_files().is_none_or(|files| files > 2));
    }
}
