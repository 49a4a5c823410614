//! What benchmark records hold: lines of JSON that follow from a seed.
//!
//! All records are cut from one text, at places that move on from record to record, so making one
//! costs nothing; they compress about as events do. The same number gives the same bytes. Pure.

use protocol::rng::Rng;

/// 1 MiB: larger than any compressor's window of interest here, small enough for the cache.
const TEXT_BYTES: usize = 1 << 20;
/// A prime: places do not repeat before the whole text was used.
const STRIDE: u64 = 7919;
/// Any number; it is what makes two runs send the same.
const SEED: u64 = 0x6d69_6c6c;

const PAGES: [&str; 8] =
    ["/", "/cart", "/checkout", "/search", "/product/lamp", "/product/chair", "/login", "/help"];
const AGENTS: [&str; 4] = ["firefox/142", "chrome/141", "safari/26", "curl/8.14"];

/// Values of one size.
#[derive(Debug)]
pub(super) struct Content {
    text: Vec<u8>,
    size: usize,
}

impl Content {
    /// Values of `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        let mut rng = Rng::new(SEED);
        let mut text = String::new();
        let mut pick = |words: &[&'static str]| {
            let count = u64::try_from(words.len()).unwrap_or(u64::MAX);
            words[usize::try_from(rng.below(count)).unwrap_or(0)]
        };
        let mut numbers = Rng::new(SEED).fork();
        while text.len() < size + TEXT_BYTES {
            let (page, agent) = (pick(&PAGES), pick(&AGENTS));
            let (user, took) = (numbers.below(100_000), numbers.below(2_000));
            let line = format!(
                "{{\"user\":\"u{user:05}\",\"page\":\"{page}\",\"agent\":\"{agent}\",\"took_ms\":{took}}}\n"
            );
            text.push_str(&line);
        }
        Self { text: text.into_bytes(), size }
    }

    /// The value of record `number`.
    pub(super) fn value(&self, number: u64) -> &[u8] {
        let places = u64::try_from(self.text.len() - self.size).unwrap_or(u64::MAX);
        let place = usize::try_from(number.wrapping_mul(STRIDE) % places).unwrap_or(0);
        &self.text[place..place + self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_bytes_and_another_gives_others() {
        let (one, two) = (Content::new(100), Content::new(100));
        assert_eq!(one.value(7), two.value(7));
        assert_ne!(one.value(7), two.value(8));
        assert_eq!(one.value(u64::MAX).len(), 100);
        assert_eq!(Content::new(0).value(3), b"");
    }
}
