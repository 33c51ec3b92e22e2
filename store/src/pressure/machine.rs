//! What Linux says of its memory, in a few small files.
//!
//! ```text
//!   /proc/self/cgroup      0::/a/b           version 2: the group of this process
//!                          9:memory:/a/b     version 1
//!
//!   /sys/fs/cgroup/a/b, /sys/fs/cgroup/a, /sys/fs/cgroup        each of them has limits of its own
//!        memory.max, memory.high           or memory/a/b/memory.limit_in_bytes
//!        memory.current, memory.stat          memory.usage_in_bytes, memory.stat
//!
//!   /proc/meminfo          MemTotal, MemAvailable
//! ```
//!
//! In a container with a namespace of its own the group is `/`, and its files lie at the top. A file that is missing or says
//! something else than expected is as if it were not there: then others decide, in the end nobody.

use super::MemoryFigures;
use parking_lot::Mutex;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long what was read holds.
const FRESH: Duration = Duration::from_secs(1);

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Machine {
    /// `/`, but in tests.
    root: PathBuf,
    last: Mutex<Option<(Instant, Option<MemoryFigures>)>>,
}

impl Default for Machine {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

/// The files of a version of cgroups.
struct Files {
    limits: &'static [&'static str],
    used: &'static str,
    /// The line of `memory.stat` with what files of the page cache take that nobody used lately.
    cached: &'static str,
}

const V2: Files = Files {
    limits: &["memory.max", "memory.high"],
    used: "memory.current",
    cached: "inactive_file ",
};
const V1: Files = Files {
    limits: &["memory.limit_in_bytes"],
    used: "memory.usage_in_bytes",
    cached: "total_inactive_file ",
};

/// The number after `name` in a text of lines.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

impl Files {
    /// What a group says.
    fn figures(&self, group: &Path) -> Option<MemoryFigures> {
        let number = |name: &str| read(&group.join(name))?.trim().parse::<u64>().ok();
        // "max" is no number, and no limit.
        let limit = self.limits.iter().filter_map(|name| number(name)).min()?;
        let used = number(self.used)?;
        let stat = read(&group.join("memory.stat"));
        let cached = stat.and_then(|stat| number_after(&stat, self.cached)).unwrap_or(0);
        let available = limit.saturating_sub(used.saturating_sub(cached));
        Some(MemoryFigures { limit, available })
    }
}

impl Machine {
    fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), last: Mutex::new(None) }
    }

    /// What was read within the last second, or is read now.
    pub(super) fn figures(&self) -> Option<MemoryFigures> {
        let mut last = self.last.lock();
        if let Some((at, figures)) = *last
            && at.elapsed() < FRESH
        {
            return figures;
        }
        let figures = if cfg!(target_os = "linux") { self.look() } else { None };
        *last = Some((Instant::now(), figures));
        figures
    }

    /// Of all that limits this process, that which leaves least.
    fn look(&self) -> Option<MemoryFigures> {
        let share =
            |it: &MemoryFigures| (u128::from(it.available) << 32) / u128::from(it.limit.max(1));
        self.all().into_iter().min_by_key(share)
    }

    /// Bytes of memory that this process may take at most, whatever others take.
    pub(super) fn least_limit(&self) -> Option<u64> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        self.all().iter().map(|it| it.limit).min()
    }

    /// All that limits this process.
    fn all(&self) -> Vec<MemoryFigures> {
        let meminfo = read(&self.root.join("proc/meminfo")).unwrap_or_default();
        let kib = |name| number_after(&meminfo, name)?.checked_mul(1024);
        let machine = kib("MemTotal:").zip(kib("MemAvailable:"));
        let machine = machine.map(|(limit, available)| MemoryFigures { limit, available });
        let most = machine.map_or(u64::MAX, |it| it.limit);
        let groups = read(&self.root.join("proc/self/cgroup")).unwrap_or_default();
        let mut found: Vec<MemoryFigures> = machine.into_iter().collect();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
            let (top, files) = match controllers {
                "" => ("sys/fs/cgroup", V2),
                _ if controllers.split(',').any(|it| it == "memory") => {
                    ("sys/fs/cgroup/memory", V1)
                }
                _ => continue,
            };
            let top = self.root.join(top);
            // A group outside of this namespace is told with "..", and its files are not there.
            let inside = !group.split('/').any(|name| name == "..");
            let group = top.join(if inside { group.trim_start_matches('/') } else { "" });
            let chain = group.ancestors().take_while(|it| it.starts_with(&top));
            // A limit above the machine's memory is none.
            found.extend(chain.filter_map(|it| files.figures(it)).filter(|it| it.limit < most));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    /// A machine of these files.
    fn look(files: &[(&str, &str)]) -> Option<MemoryFigures> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Machine::at(root.path()).look()
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       16000 kB\nMemFree:  100 kB\nMemAvailable:    9000 kB\nBuffers: 1 kB\n",
    );

    #[test]
    fn the_machine_alone() {
        let expected = MemoryFigures { limit: 16_000 * KIB, available: 9_000 * KIB };
        assert_eq!(look(&[MEMINFO]), Some(expected));
        assert_eq!(Machine::default().least_limit().is_some(), cfg!(target_os = "linux"));
        assert_eq!(look(&[]), None);
        for text in ["", "MemTotal: much", "MemTotal: 5 kB", "MemAvailable: 99999999999999999999"] {
            assert_eq!(look(&[("proc/meminfo", text)]), None, "{text}");
        }
        // A group without limits says nothing.
        let unlimited = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.high", "max\n"),
            ("sys/fs/cgroup/a/memory.current", "5\n"),
        ];
        assert_eq!(look(&unlimited), Some(expected));
    }

    #[test]
    fn a_group_of_version_2_and_those_above_it() {
        let mut files = vec![
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b.scope\n"),
            ("sys/fs/cgroup/a/b.scope/memory.max", "8000000\n"),
            ("sys/fs/cgroup/a/b.scope/memory.high", "6000000\n"),
            ("sys/fs/cgroup/a/b.scope/memory.current", "5000000\n"),
            (
                "sys/fs/cgroup/a/b.scope/memory.stat",
                "anon 1\ninactive_file 2000000\nactive_file 7\n",
            ),
        ];
        let own = MemoryFigures { limit: 6_000_000, available: 3_000_000 };
        assert_eq!(look(&files), Some(own));
        // That above has less left.
        files.push(("sys/fs/cgroup/a/memory.max", "9000000"));
        files.push(("sys/fs/cgroup/a/memory.current", "8500000"));
        let above = MemoryFigures { limit: 9_000_000, available: 500_000 };
        assert_eq!(look(&files), Some(above));
        // In a namespace of its own.
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000"),
            ("sys/fs/cgroup/memory.current", "2000"),
        ];
        assert_eq!(look(&files), Some(MemoryFigures { limit: 1000, available: 0 }));
        // A path out of it leads nowhere else.
        let files = [
            ("proc/self/cgroup", "0::/../..\n"),
            ("sys/fs/cgroup/memory.max", "1000"),
            ("sys/fs/cgroup/memory.current", "500"),
            ("sys/memory.max", "10"),
            ("sys/memory.current", "10"),
        ];
        assert_eq!(look(&files), Some(MemoryFigures { limit: 1000, available: 500 }));
    }

    #[test]
    fn a_group_of_version_1() {
        let mut files = vec![
            MEMINFO,
            ("proc/self/cgroup", "12:cpuset:/x\n9:hugetlb,memory:/docker/7\n1:name=systemd:/y\n"),
            ("sys/fs/cgroup/memory/docker/7/memory.limit_in_bytes", "4000000\n"),
            ("sys/fs/cgroup/memory/docker/7/memory.usage_in_bytes", "3500000\n"),
            (
                "sys/fs/cgroup/memory/docker/7/memory.stat",
                "inactive_file 1\ntotal_inactive_file 500000\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "9000000\n"),
        ];
        let own = MemoryFigures { limit: 4_000_000, available: 1_000_000 };
        assert_eq!(look(&files), Some(own));
        files.swap_remove(2);
        // No limit but that of the machine.
        let machine = MemoryFigures { limit: 16_000 * KIB, available: 9_000 * KIB };
        assert_eq!(look(&files), Some(machine));
    }

    /// Whatever this machine is: it says something sensible.
    #[test]
    fn this_machine() {
        let figures = Machine::default().figures();
        let Some(MemoryFigures { limit, available }) = figures else {
            println!("SKIPPED: this machine says nothing of its memory");
            return;
        };
        assert!(available <= limit && limit > 1 << 20, "{limit} {available}");
    }
}
