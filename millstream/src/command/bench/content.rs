//! What benchmark records hold: lines of JSON that follow from a seed.
//!
//! All records are cut from one text, at places that move on from record to record, so making one
//! costs nothing; they compress about as events do. Where each record must be understood by whoever
//! reads it, it is one whole object. The same number gives the same bytes. Pure.

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
    /// Values begin at multiples of it.
    grain: usize,
}

impl Content {
    /// Values of `size` bytes, cut anywhere.
    pub(super) fn new(size: usize) -> Self {
        let mut events = Events::new();
        let mut text = Vec::new();
        while text.len() < size + TEXT_BYTES {
            text.extend_from_slice(events.next().as_bytes());
            text.extend_from_slice(b"}\n");
        }
        Self { text, size, grain: 1 }
    }

    /// Values of `size` bytes, each of which is an object. `None`: none is so small.
    pub(super) fn objects(size: usize) -> Option<Self> {
        const NOTE: &str = ",\"note\":\"";
        let mut events = Events::new();
        let mut text = String::new();
        while text.len() < TEXT_BYTES {
            let event = events.next();
            let padding = size.checked_sub(event.len() + NOTE.len() + "\"}".len())?;
            text.extend([&event, NOTE, &"-".repeat(padding), "\"}"]);
        }
        Some(Self { text: text.into_bytes(), size, grain: size })
    }

    /// The value of record `number`.
    pub(super) fn value(&self, number: u64) -> &[u8] {
        let places = (self.text.len() - self.size) / self.grain + 1;
        let places = u64::try_from(places).unwrap_or(u64::MAX);
        let place = usize::try_from(number.wrapping_mul(STRIDE) % places).unwrap_or(0);
        let begin = place * self.grain;
        &self.text[begin..begin + self.size]
    }
}

/// Objects one after the other, each without its closing brace.
struct Events(Rng);

impl Events {
    fn new() -> Self {
        Self(Rng::new(SEED))
    }

    fn next(&mut self) -> String {
        let (page, agent) = (self.pick(&PAGES), self.pick(&AGENTS));
        let (user, took) = (self.0.below(100_000), self.0.below(2_000));
        format!(
            "{{\"user\":\"u{user:05}\",\"page\":\"{page}\",\"agent\":\"{agent}\",\"took_ms\":{took}"
        )
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        let count = u64::try_from(words.len()).unwrap_or(u64::MAX);
        words[usize::try_from(self.0.below(count)).unwrap_or(0)]
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

    #[test]
    fn each_value_for_those_who_read_it_is_one_object_of_the_size_asked_for() {
        let content = Content::objects(200).unwrap();
        for number in (0..2000).chain([u64::MAX]) {
            let value = content.value(number);
            assert_eq!(value.len(), 200);
            let object: serde_json::Value = serde_json::from_slice(value).unwrap();
            assert!(object["took_ms"].as_u64().unwrap() < 2_000, "{object}");
        }
        assert!(Content::objects(20).is_none());
    }
}
