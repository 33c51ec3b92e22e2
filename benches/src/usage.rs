//! What a phase of a run costs the whole process: every thread, kernel included.
//!
//! Times come from `getrusage`; bytes and memory from `/proc/self`, so that they are known on Linux
//! alone. Sizes are in bytes.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The process's meters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    at: Instant,
    user: Duration,
    system: Duration,
    written: Option<Written>,
}

/// Bytes written, counted in two places; see `proc_pid_io(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Written {
    /// `write_bytes`: file pages made dirty, in whole pages. What the disk has to take, before file
    /// system metadata.
    pub pages: u64,
    /// `wchar`: bytes handed to write system calls, on whatever.
    pub calls: u64,
}

/// What happened between two readings of the meters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cost {
    /// Time on the wall.
    pub wall: Duration,
    /// CPU time of all threads in user space.
    pub user: Duration,
    /// CPU time of all threads in the kernel.
    pub system: Duration,
    /// Bytes written, where the system tells.
    pub written: Option<Written>,
}

impl Meter {
    /// Reads the meters.
    ///
    /// # Errors
    /// `getrusage` failed.
    pub fn read() -> io::Result<Self> {
        let written = written();
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let time = |micros: i64| Duration::from_micros(micros.unsigned_abs());
        Ok(Self {
            at: Instant::now(),
            user: time(usage.user_time().num_microseconds()),
            system: time(usage.system_time().num_microseconds()),
            written,
        })
    }

    /// What happened since.
    ///
    /// # Errors
    /// As [`Meter::read`].
    pub fn since(&self) -> io::Result<Cost> {
        let now = Self::read()?;
        let written = self.written.zip(now.written).map(|(then, now)| Written {
            pages: now.pages.saturating_sub(then.pages),
            calls: now.calls.saturating_sub(then.calls),
        });
        Ok(Cost {
            wall: now.at - self.at,
            user: now.user.saturating_sub(self.user),
            system: now.system.saturating_sub(self.system),
            written,
        })
    }
}

impl Cost {
    /// `count` per second of wall time.
    pub fn rate(&self, count: u64) -> f64 {
        count as f64 / self.wall.as_secs_f64()
    }

    /// CPU time, user and kernel.
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

/// The highest resident memory of the process so far, in bytes.
pub fn peak_memory() -> Option<u64> {
    let kib = field("/proc/self/status", "VmHWM:")?;
    Some(kib << 10)
}

/// Resident memory of the process now, in bytes.
pub fn memory() -> Option<u64> {
    let kib = field("/proc/self/status", "VmRSS:")?;
    Some(kib << 10)
}

/// Makes [`peak_memory`] begin anew with what is resident now; `false` where the system does not let it.
pub fn reset_peak_memory() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Resident memory of the process now, by kind, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Memory that no file backs.
    pub anon: u64,
    /// Pages of files that are mapped, the program's own among them. The system may drop them.
    pub file: u64,
}

/// Resident memory of the process now, by kind.
pub fn resident() -> Option<Resident> {
    let bytes = |name| Some(field("/proc/self/status", name)? << 10);
    Some(Resident { anon: bytes("RssAnon:")?, file: bytes("RssFile:")? })
}

/// What the processor calls itself, and which it is: a virtual one's name often does not say that.
pub fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let of_name = |line: &str| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        };
        text.lines().find_map(of_name)
    };
    let name = field("model name")?;
    Some(match (field("cpu family"), field("model")) {
        (Some(family), Some(model)) => format!("{name}, family {family}, model {model}"),
        _ => name,
    })
}

/// Per cent of all cores that others had for as long as this thread slept here. What other threads of this process do
/// counts as others'.
pub fn busy_percent(time: Duration) -> Option<f64> {
    let before = core_times()?;
    std::thread::sleep(time);
    let after = core_times()?;
    let all = after.all.saturating_sub(before.all);
    let idle = after.idle.saturating_sub(before.idle);
    (all > 0).then(|| all.saturating_sub(idle) as f64 * 100.0 / all as f64)
}

/// Ticks of all cores since the system began.
struct CoreTimes {
    all: u64,
    idle: u64,
}

/// From the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of those.
fn core_times() -> Option<CoreTimes> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let times = line.split_whitespace().take(8).map(str::parse).collect::<Result<Vec<u64>, _>>();
    let times = times.ok()?;
    Some(CoreTimes { all: times.iter().sum(), idle: times.get(3)? + times.get(4)? })
}

/// Bytes of disk that everything below `dir` occupies: allocated blocks, as `du` counts them.
///
/// # Errors
/// The first entry that cannot be read, with its path.
pub fn disk_bytes(dir: &Path) -> io::Result<u64> {
    let context = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    let mut bytes = 0;
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| context(&folder, error))?;
        for entry in entries {
            let path = entry.map_err(|error| context(&folder, error))?.path();
            let metadata = path.symlink_metadata().map_err(|error| context(&path, error))?;
            // The unit of `st_blocks`, whatever the file system's blocks are.
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(bytes)
}

fn written() -> Option<Written> {
    let path = "/proc/self/io";
    Some(Written { pages: field(path, "write_bytes:")?, calls: field(path, "wchar:")? })
}

/// The number after `name` at the start of a line of a file of `/proc`.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_meters() {
        let meter = Meter::read().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("below/file"), vec![7; 1 << 20]).unwrap();
        let mut x = 1_u64;
        while meter.since().unwrap().cpu() < Duration::from_millis(2) {
            x = std::hint::black_box(x.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        }
        let cost = meter.since().unwrap();
        assert!(cost.wall > Duration::ZERO && cost.cpu() >= Duration::from_millis(2), "{cost:?}");
        assert!(cost.written.is_none_or(|written| written.calls >= 1 << 20), "{cost:?}");
        assert_eq!(Cost { wall: Duration::from_millis(500), ..cost }.rate(3), 6.0);
    }

    #[test]
    fn others_have_between_none_and_all_of_the_cores() {
        let busy = busy_percent(Duration::from_millis(50));
        assert!(busy.is_none_or(|busy| (0.0..=100.0).contains(&busy)), "{busy:?}");
    }

    #[test]
    fn kinds_of_memory_add_up() {
        let Some((before, all)) = resident().zip(memory()) else { return };
        let slack = 4 << 20;
        assert!(before.anon + before.file <= all + slack, "{before:?} of {all}");
        let bytes = std::hint::black_box(vec![7_u8; 32 << 20]);
        let grown = resident().map_or(0, |now| now.anon.saturating_sub(before.anon));
        assert!(grown + slack >= bytes.len() as u64, "{grown}");
    }

    #[test]
    fn sizes_are_in_bytes() {
        // The kernel counts in batches per core: two readings may differ by that.
        let slack = 1 << 20;
        if let (Some(now), Some(peak)) = (memory(), peak_memory()) {
            assert!(peak + slack >= now && now > 1 << 18, "peak {peak}, now {now}");
        }
        let dir = tempfile::tempdir().unwrap();
        let empty = disk_bytes(dir.path()).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, vec![7; 1 << 20]).unwrap();
        std::fs::File::open(&file).unwrap().sync_all().unwrap();
        assert!(disk_bytes(dir.path()).unwrap() >= empty + (1 << 20));
        let missing = disk_bytes(&dir.path().join("missing")).unwrap_err();
        assert!(missing.to_string().contains("missing"), "{missing}");
    }
}
