//! Checkers: what was promised against what was read.
//!
//! Values are unique, so a value that is read twice was written twice, and one that is missing was
//! lost.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

/// What became of a value, as far as its writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged, or its transaction committed.
    Kept,
    /// Its transaction was aborted.
    Gone,
    /// Nobody knows: it may be there once, or not at all.
    Unknown,
}

/// What the writers did: groups of values that share a fate, in the order written.
#[derive(Clone, Debug, Default)]
pub struct History {
    groups: Vec<(Fate, Vec<String>)>,
}

impl History {
    /// Notes that `values` were written together, and what became of them.
    pub fn note(&mut self, fate: Fate, values: Vec<String>) {
        self.groups.push((fate, values));
    }

    /// How many values were kept for certain.
    #[must_use]
    pub fn kept(&self) -> usize {
        let kept = self.groups.iter().filter(|(fate, _)| *fate == Fate::Kept);
        kept.map(|(_, values)| values.len()).sum()
    }

    /// The values that were kept for certain.
    pub fn kept_values(&self) -> impl Iterator<Item = &String> {
        let kept = self.groups.iter().filter(|(fate, _)| *fate == Fate::Kept);
        kept.flat_map(|(_, values)| values)
    }

    /// Compares with what was read, partition by partition in order of offsets. `is_atomic`: the
    /// values of a group are there together or not at all.
    ///
    /// # Errors
    /// What was promised and did not hold.
    pub fn check(&self, read: &[Vec<String>], is_atomic: bool) -> Result<(), String> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for value in read.iter().flatten() {
            *seen.entry(value).or_default() += 1;
        }
        let known: BTreeSet<&str> =
            self.groups.iter().flat_map(|(_, values)| values).map(String::as_str).collect();
        for (value, count) in &seen {
            if *count > 1 {
                return Err(format!("duplicate: {value} was read {count} times"));
            }
            if !known.contains(value) {
                return Err(format!("invented: {value} was never written"));
            }
        }
        for (fate, values) in &self.groups {
            let there = values.iter().filter(|value| seen.contains_key(value.as_str())).count();
            match fate {
                Fate::Kept if there < values.len() => {
                    let lost = values.iter().find(|value| !seen.contains_key(value.as_str()));
                    return Err(format!("lost: {lost:?} was acknowledged"));
                }
                Fate::Gone if 0 < there => {
                    let torn = values.iter().find(|value| seen.contains_key(value.as_str()));
                    return Err(format!("aborted: {torn:?} was read nevertheless"));
                }
                Fate::Unknown if is_atomic && there != 0 && there < values.len() => {
                    return Err(format!("torn: {there} of {} of {values:?}", values.len()));
                }
                Fate::Kept | Fate::Gone | Fate::Unknown => {}
            }
        }
        self.check_order(read)
    }

    /// What one writer wrote to one partition is read in the order written.
    fn check_order(&self, read: &[Vec<String>]) -> Result<(), String> {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, value) in self.groups.iter().flat_map(|(_, values)| values).enumerate() {
            places.insert(value, place);
        }
        for partition in read {
            for pair in partition.windows(2) {
                if places[pair[1].as_str()] < places[pair[0].as_str()] {
                    return Err(format!("disorder: {} was read after {}", pair[1], pair[0]));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(groups: &[(Fate, &[&str])], read: &[&str], is_atomic: bool) -> Result<(), String> {
        let mut history = History::default();
        for (fate, values) in groups {
            history.note(*fate, values.iter().map(|it| (*it).to_owned()).collect());
        }
        history.check(&[read.iter().map(|it| (*it).to_owned()).collect()], is_atomic)
    }

    #[test]
    fn each_broken_promise_is_named() {
        let two: &[(Fate, &[&str])] = &[(Fate::Kept, &["a", "b"]), (Fate::Unknown, &["c", "d"])];
        assert_eq!(check(two, &["a", "b"], true), Ok(()));
        assert_eq!(check(two, &["a", "b", "c", "d"], true), Ok(()));
        let names = |read: &[&str]| check(two, read, true).unwrap_err();
        assert!(names(&["a"]).starts_with("lost"));
        assert!(names(&["a", "b", "b"]).starts_with("duplicate"));
        assert!(names(&["a", "b", "x"]).starts_with("invented"));
        assert!(names(&["a", "b", "d"]).starts_with("torn"));
        assert!(names(&["b", "a"]).starts_with("disorder"));
        assert!(check(&[(Fate::Gone, &["a"])], &["a"], true).unwrap_err().starts_with("aborted"));
        assert_eq!(check(two, &["a", "b", "d"], false), Ok(()));
    }
}
