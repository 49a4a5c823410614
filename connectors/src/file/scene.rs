//! What one scan saw, for questions of one file about others.
//!
//! Rotation makes a log's successor or copy under a name of the same *family*: `syslog`, `syslog.1`,
//! `syslog-20261121.gz`. A file that was seen for the first time and whose content an elder of its family
//! carries, from the first byte to its last, may be a copy under way. Heads are read once per scan. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::mark::Mark;
use super::tracker::{Content, Head, Likeness, Observed, Place};

/// A directory, and a name without what rotation adds.
type Family = (PathBuf, String);

/// The files of one scan, and looks into them.
pub(crate) struct Scene<'a> {
    places: BTreeMap<Place, &'a Observed>,
    families: BTreeMap<Family, Vec<&'a Observed>>,
    heads: BTreeMap<Place, Option<Head>>,
    content: &'a mut dyn Content,
}

impl<'a> Scene<'a> {
    /// What `seen` holds, each place once.
    pub(crate) fn new(seen: &'a [Observed], content: &'a mut dyn Content) -> Self {
        let places = seen.iter().map(|file| (file.place, file)).collect();
        let mut families: BTreeMap<Family, Vec<&Observed>> = BTreeMap::new();
        for file in seen {
            families.entry(family(&file.path)).or_default().push(file);
        }
        Self { places, families, heads: BTreeMap::new(), content }
    }

    /// True when a file was seen at `place`.
    pub(crate) fn has(&self, place: Place) -> bool {
        self.places.contains_key(&place)
    }

    /// The first bytes of `file`. `None`: cannot be read now.
    pub(crate) fn head(&mut self, file: &Observed) -> Option<&Head> {
        let Self { heads, content, .. } = self;
        heads.entry(file.place).or_insert_with(|| content.head(file)).as_ref()
    }

    /// Compares `file` with `mark`.
    pub(crate) fn likeness(&mut self, file: &Observed, mark: &Mark) -> Likeness {
        self.content.likeness(file, mark)
    }

    /// True when what is at `place` carries `mark`.
    pub(crate) fn carries(&mut self, place: Place, mark: &Mark) -> bool {
        let Some(&file) = self.places.get(&place) else { return false };
        self.content.likeness(file, mark) == Likeness::Same
    }

    /// True when a file of the family of `file`, or one at `others`, not younger, carries all that `file` has.
    /// Clocks of file systems tick slowly: two born in one tick may each be the other's copy.
    pub(crate) fn has_elder_of_same_content(&mut self, file: &Observed, others: &[Place]) -> bool {
        let Some(head) = self.head(file).cloned() else { return false };
        if head.is_broken {
            // How the stream goes on is seen when it is whole.
            return true;
        }
        let family = self.families.get(&family(&file.path)).into_iter().flatten();
        let others = others.iter().filter_map(|place| self.places.get(place));
        let elders: Vec<&Observed> = family
            .chain(others)
            .filter(|elder| elder.place != file.place && elder.place.btime <= file.place.btime)
            .copied()
            .collect();
        let mut whole = None;
        elders.into_iter().any(|elder| {
            let begins_so =
                self.head(elder).is_some_and(|elder| elder.bytes.starts_with(&head.bytes));
            if !begins_so {
                return false;
            }
            let whole = *whole.get_or_insert_with(|| self.content.whole(file));
            whole.is_some_and(|whole| self.content.likeness(elder, &whole) == Likeness::Same)
        })
    }
}

/// True when rotation may have made one name of the other.
pub(crate) fn are_related(a: &Path, b: &Path) -> bool {
    family(a) == family(b)
}

fn family(path: &Path) -> Family {
    (path.parent().map(Path::to_owned).unwrap_or_default(), stem(path))
}

fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut stem = name.as_str();
    loop {
        let bare = stem.strip_suffix(".gz").unwrap_or(stem);
        let digits = bare.trim_end_matches(|c: char| c.is_ascii_digit());
        let cut =
            if digits.len() < bare.len() { digits.strip_suffix(['.', '-', '_']) } else { None };
        let bare = cut.unwrap_or(bare);
        if bare == stem || bare.is_empty() {
            return stem.to_owned();
        }
        stem = bare;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_made_by_rotation_are_related() {
        for (a, b, related) in [
            ("/v/syslog", "/v/syslog.1", true),
            ("/v/syslog.1", "/v/syslog.2.gz", true),
            ("/v/syslog", "/v/syslog-20261121.gz", true),
            ("/v/a.log", "/v/b.log", false),
            ("/v/syslog", "/w/syslog.1", false),
            ("/v/2026", "/v/2027", false),
        ] {
            assert_eq!(are_related(Path::new(a), Path::new(b)), related, "{a} {b}");
        }
    }
}
