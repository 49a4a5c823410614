//! Finding the files that a source shall read.
//!
//! A pattern names a file, or a directory, which stands for all files below it; wildcards as in a shell,
//! `**` for any depth. Links to files are followed, links to directories are not, so that no tree is walked
//! twice or for ever. A file that several paths lead to is found once, under the first path in order. What
//! cannot be read is noted and the scan goes on. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::tracker::{Observed, Place};
use super::window::observed;

/// Directories within directories that are followed; deeper ones are noted.
const DEPTH_MAX: usize = 64;
/// Files that one source follows; those behind, in the order of paths, are noted.
pub(crate) const FILES_MAX: usize = 100_000;

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The files, in the order of paths.
    pub(crate) files: Vec<Observed>,
    /// Paths that could not be read, with the reason.
    pub(crate) failed: Vec<(PathBuf, io::Error)>,
}

/// Finds all files that match one of `patterns` and none of `exclude`.
pub(crate) fn scan(patterns: &[glob::Pattern], exclude: &[glob::Pattern]) -> Scan {
    let mut found = Scan::default();
    let mut paths = BTreeSet::new();
    for pattern in patterns {
        // The pattern was parsed before; it cannot fail to be parsed again.
        for entry in glob::glob(pattern.as_str()).into_iter().flatten() {
            match entry {
                Ok(path) if path.is_dir() => walk(&path, DEPTH_MAX, &mut paths, &mut found.failed),
                Ok(path) => drop(paths.insert(path)),
                Err(error) => found.failed.push((error.path().to_owned(), error.into())),
            }
        }
    }
    let mut by_place: BTreeMap<Place, Observed> = BTreeMap::new();
    for path in paths.into_iter().filter(|path| !is_excluded(path, exclude)) {
        match std::fs::metadata(&path) {
            // Not a file (a socket, a pipe): nothing to read, nothing to say.
            Ok(metadata) => {
                if let Some(file) = observed(&path, &metadata) {
                    by_place.entry(file.place).or_insert(file);
                }
            }
            // Rotated away between the listing and now, or a link to nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.failed.push((path, error)),
        }
    }
    found.files = by_place.into_values().collect();
    found.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    for file in found.files.drain(FILES_MAX.min(found.files.len())..) {
        found
            .failed
            .push((file.path, io::Error::other(format!("more than {FILES_MAX} files match"))));
    }
    found
}

fn walk(
    directory: &Path,
    depth: usize,
    paths: &mut BTreeSet<PathBuf>,
    failed: &mut Vec<(PathBuf, io::Error)>,
) {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) if depth > 0 => entries,
        Ok(_) => return failed.push((directory.to_owned(), io::Error::other("too deep"))),
        Err(error) => return failed.push((directory.to_owned(), error)),
    };
    for entry in entries {
        match entry.and_then(|entry| Ok((entry.file_type()?, entry.path()))) {
            Ok((kind, path)) if kind.is_dir() => walk(&path, depth - 1, paths, failed),
            Ok((kind, path)) if kind.is_symlink() && path.is_dir() => {}
            Ok((_, path)) => drop(paths.insert(path)),
            Err(error) => failed.push((directory.to_owned(), error)),
        }
    }
}

/// A pattern excludes by the whole path or by the file's name.
fn is_excluded(path: &Path, exclude: &[glob::Pattern]) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    exclude.iter().any(|pattern| pattern.matches_path(path) || pattern.matches(&name))
}
