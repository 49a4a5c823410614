//! What names without a credential of SCRAM are challenged with: something like those that exist.
//!
//! A challenge tells the length of a salt and a number of iterations, and both depend on who made
//! the credential: were those of names that do not exist all the same, each other name would show
//! itself as somebody's. So a decoy takes after one of the credentials that exist, as often after
//! each; which, and its salt, follow from the name and a secret. When credentials come and go most
//! decoys stay as they are, and the others look as if a password had been changed. Pure.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use protocol::sasl::Hash;
use protocol::sasl::scram::{Credential, ITERATIONS_MIN};

/// 24: bytes of the salts that this broker makes.
const SALT_BYTES: usize = 24;

/// What of some clients' salts is made: digits of base 36 (Kafka's own).
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// What can be seen of a credential from without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    salt_bytes: usize,
    iterations: u32,
    /// Of salts that are digits alone, the first: as it is a number's, not each is as likely.
    /// `None`: the salt is any bytes.
    digit: Option<u8>,
}

impl Shape {
    const OWN: Self = Self { salt_bytes: SALT_BYTES, iterations: ITERATIONS_MIN, digit: None };

    fn of(credential: &Credential) -> Self {
        let Credential { salt, iterations, .. } = credential;
        let is_number = salt.iter().all(|it| DIGITS.contains(it));
        let digit = salt.first().copied().filter(|_| is_number);
        Self { salt_bytes: salt.len(), iterations: *iterations, digit }
    }
}

/// How many credentials look alike, of each hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shapes(BTreeMap<Hash, BTreeMap<Shape, u32>>);

impl Shapes {
    /// Of all credentials that there are.
    pub(crate) fn of<'a>(all: impl Iterator<Item = (Hash, &'a Credential)>) -> Self {
        let mut shapes = BTreeMap::<Hash, BTreeMap<Shape, u32>>::new();
        for (hash, credential) in all {
            let shape = Shape::of(credential);
            *shapes.entry(hash).or_default().entry(shape).or_default() += 1;
        }
        Self(shapes)
    }

    /// What `name` is challenged with; nothing proves it. The same for as long as `key` and what it
    /// takes after stay the same.
    pub(crate) fn decoy(&self, hash: Hash, name: &str, key: &[u8]) -> Credential {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mechanism = hash.mechanism();
        let shape = self.drawn(hash, name, &key);
        let seen = format!("{mechanism} {shape:?}");
        let mut salt = Vec::new();
        let mut block = 0_u32;
        while salt.len() < shape.salt_bytes {
            salt.extend_from_slice(&sign(&key, &format!("salt {block} of {seen} for {name}")));
            block += 1;
        }
        salt.truncate(shape.salt_bytes);
        if let Some(first) = shape.digit {
            salt.iter_mut().for_each(|it| *it = DIGITS[usize::from(*it) % DIGITS.len()]);
            salt[0] = first;
        }
        let keys = Credential::decoy(hash, name, &sign(&key, mechanism));
        Credential { salt, iterations: shape.iterations, ..keys }
    }

    /// The shape that falls to `name`: each draws a lot for each of its credentials, and the lowest
    /// wins. So another credential takes over its share of the names, and no other name moves.
    fn drawn(&self, hash: Hash, name: &str, key: &hmac::Key) -> Shape {
        let of_hash = self.0.get(&hash).or_else(|| self.0.values().next());
        let lots = of_hash.into_iter().flatten().map(|(shape, &count)| {
            let lot = sign(key, &format!("lot of {} {shape:?} for {name}", hash.mechanism()));
            let lot = lot.first_chunk().copied().map_or(0, u32::from_be_bytes);
            // Within (0, 1); the lowest of `count` such lots is spread as this one is.
            let even = (f64::from(lot) + 0.5) / 4_294_967_296.0;
            (-even.ln() / f64::from(count), *shape)
        });
        let lowest = lots.min_by(|one, other| one.0.total_cmp(&other.0));
        lowest.map_or(Shape::OWN, |(_, shape)| shape)
    }
}

fn sign(key: &hmac::Key, text: &str) -> Vec<u8> {
    hmac::sign(key, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[7; 32];
    const HASH: Hash = Hash::Sha256;

    fn like(salt: &[u8], iterations: u32) -> Credential {
        Credential { salt: salt.to_vec(), iterations, stored_key: vec![], server_key: vec![] }
    }

    fn shapes(all: &[(usize, Credential)]) -> Shapes {
        let each = all.iter().flat_map(|(count, it)| std::iter::repeat_n((HASH, it), *count));
        Shapes::of(each)
    }

    fn decoys(shapes: &Shapes) -> Vec<Credential> {
        (0..1000).map(|it| shapes.decoy(HASH, &format!("nobody{it}"), KEY)).collect()
    }

    #[test]
    fn decoys_look_like_the_credentials_that_exist_in_their_proportion() {
        let number = b"1f3g9mk2q0zj5w8x7y6t4r2e1c";
        let all = [
            (60, like(&[0xff; 24], 4096)),
            (30, like(&[0xff; 64], 8192)),
            (10, like(number, 4096)),
        ];
        let decoys = decoys(&shapes(&all));
        for (want, (share, credential)) in [600_i64, 300, 100].into_iter().zip(&all) {
            let shape = Shape::of(credential);
            let found = decoys.iter().filter(|it| Shape::of(it) == shape).count();
            assert!((i64::try_from(found).unwrap() - want).abs() < 60, "{share}: {found}");
        }
        let salts: std::collections::BTreeSet<_> = decoys.iter().map(|it| &it.salt).collect();
        assert_eq!(salts.len(), decoys.len(), "each name has its own");
        let one = shapes(&all[1..2]);
        assert_eq!(one.decoy(HASH, "a", KEY), one.decoy(HASH, "a", KEY));
        assert_ne!(one.decoy(HASH, "a", KEY).salt, one.decoy(HASH, "a", &[8; 32]).salt);
        let other = Hash::Sha512;
        assert_eq!(one.decoy(other, "a", KEY).iterations, 8192, "as those of the other hash");
        assert_ne!(one.decoy(HASH, "a", KEY).salt, one.decoy(other, "a", KEY).salt);
        let own = Shapes::default().decoy(HASH, "a", KEY);
        assert_eq!((own.salt.len(), own.iterations), (24, 4096));
    }

    #[test]
    fn most_decoys_stay_when_credentials_come_and_the_others_have_another_salt() {
        let some = [(60, like(&[0xff; 24], 4096)), (30, like(&[0xff; 64], 8192))];
        let mut more = some.to_vec();
        more[1].0 += 1;
        more.push((1, like(&[0xff; 24], 16_384)));
        let (before, after) = (decoys(&shapes(&some)), decoys(&shapes(&more)));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
        assert!((1..60).contains(&moved.len()), "{}", moved.len());
        assert!(moved.iter().all(|(before, after)| before.salt[..24] != after.salt[..24]));
    }
}
