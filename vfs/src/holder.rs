//! Who holds a lock, where the system tells.
//!
//! ```text
//!   /proc/locks    1: FLOCK  ADVISORY  WRITE 4711 fd:01:262201 0 EOF
//!                                            │    └─ device and number of the file
//!                                            └─ process that locked it
//! ```
//!
//! The system is asked, and no file that a process has left: what it wrote before it died would name
//! somebody else by now.

use std::fs::File;

/// The process that has `file` locked; `None` if nobody has, or the system does not say.
pub(crate) fn of(file: &File) -> Option<u32> {
    os::holder(file)
}

#[cfg(target_os = "linux")]
mod os {
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    pub(super) fn holder(file: &File) -> Option<u32> {
        let found = file.metadata().ok()?;
        let device = found.dev();
        let (major, minor) = (nix::libc::major(device), nix::libc::minor(device));
        let name = format!("{major:02x}:{minor:02x}:{}", found.ino());
        let process = in_list(&fs::read_to_string("/proc/locks").ok()?, &name)?;
        // It may have left its copy of the open file to a child and be gone.
        Path::new("/proc").join(process.to_string()).exists().then_some(process)
    }

    /// The process in the line about the file `name`.
    pub(super) fn in_list(list: &str, name: &str) -> Option<u32> {
        list.lines().find_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            // One that waits has an arrow here.
            let is_held = fields.next()? == "FLOCK";
            let (process, file) = (fields.nth(2)?, fields.next()?);
            // Processes that cannot be seen from here have the number 0.
            process.parse().ok().filter(|&process| is_held && file == name && process > 0)
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod os {
    pub(super) fn holder(_file: &std::fs::File) -> Option<u32> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_file_names_the_process() {
        let list = "1: POSIX  ADVISORY  WRITE 11 fd:01:5 0 EOF\n\
                    2: FLOCK  ADVISORY  WRITE 12 fd:01:55 0 EOF\n\
                    3: -> FLOCK  ADVISORY  WRITE 13 fd:01:5 0 EOF\n\
                    4: FLOCK  ADVISORY  READ 0 fd:01:5 0 EOF\n\
                    5: FLOCK\n\
                    6: FLOCK  ADVISORY  WRITE 14 fd:01:5 0 EOF\n";
        assert_eq!(os::in_list(list, "fd:01:5"), Some(14));
        assert_eq!(os::in_list(list, "fd:01:55"), Some(12));
        assert_eq!(os::in_list(list, "fd:01:6"), None);
        assert_eq!(os::in_list("", "fd:01:5"), None);
    }
}
