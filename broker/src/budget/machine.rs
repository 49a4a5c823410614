//! How much memory this process may have: that of the machine, or less where control groups say so.
//!
//! Version 2 of control groups is read up to its root, as each group is bound by those above it; of version 1
//! the group of memory. What cannot be read bounds nothing. Shell.

use std::path::{Path, PathBuf};

/// Memory that this process may use, in bytes. `None`: nothing tells.
#[must_use]
pub(crate) fn machine_bytes() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    machine_bytes_by(&read)
}

/// The same, files being read by `read`.
fn machine_bytes_by(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let installed = read(Path::new("/proc/meminfo")).and_then(|text| installed_bytes(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let bounds = bounds(&groups);
    let bounds = bounds.iter().filter_map(|path| read(path)?.trim().parse().ok());
    installed.into_iter().chain(bounds).min()
}

/// `MemTotal:       24587212 kB`
fn installed_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The files in which bounds may stand, for the groups of `/proc/self/cgroup`:
/// `0::/system.slice/millstream.service`, or `5:memory:/docker/1234`.
fn bounds(groups: &str) -> Vec<PathBuf> {
    let mut bounds = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(kinds), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = if kinds.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if kinds.split(',').any(|kind| kind == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        // Within a container the group's own path may not be there, its root is.
        for above in Path::new(group.trim_start_matches('/')).ancestors() {
            bounds.push(Path::new(root).join(above).join(file));
        }
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], want: Option<u64>) {
        let read = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(machine_bytes_by(&read), want, "{files:?}");
    }

    #[test]
    fn the_least_of_the_machine_and_the_groups_above_the_process_holds() {
        let machine = ("/proc/meminfo", "MemTotal:        1000 kB\nMemFree:          10 kB\n");
        let second = ("/proc/self/cgroup", "0::/a/b\n");
        let first = ("/proc/self/cgroup", "5:cpu,memory:/a\n1:cpu:/b\n");
        check(&[], None);
        check(&[("/proc/meminfo", "nonsense")], None);
        check(&[machine], Some(1_024_000));
        check(&[machine, second], Some(1_024_000));
        check(&[machine, second, ("/sys/fs/cgroup/a/b/memory.max", "max\n")], Some(1_024_000));
        check(&[machine, second, ("/sys/fs/cgroup/a/b/memory.max", "5000\n")], Some(5000));
        check(&[machine, second, ("/sys/fs/cgroup/a/memory.max", "6000\n")], Some(6000));
        check(&[machine, second, ("/sys/fs/cgroup/memory.max", "7000\n")], Some(7000));
        let limit = ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "8000\n");
        check(&[machine, first, limit], Some(8000));
        let none = ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
        check(&[machine, first, none], Some(1_024_000));
    }
}
