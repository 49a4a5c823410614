//! Bytes of the fuzzer, taken as small numbers and pieces; zeros and nothing once they have run out.
//! Pure.

/// What is left of the input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of it.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// True when nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        byte
    }

    /// The next two bytes, as a number.
    pub fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// The next `count` bytes, or what is left of them.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A piece with its length before it, a byte.
    pub fn short(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.take(length)
    }

    /// A piece with its length before it, two bytes.
    pub fn long(&mut self) -> &'a [u8] {
        let length = self.number();
        self.take(length)
    }

    /// One of `items`.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<'b, T>(&mut self, items: &'b [T]) -> &'b T {
        &items[usize::from(self.byte()) % items.len()]
    }

    /// All that is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// A piece as [`Input::short`] reads it; cut at 255 bytes.
#[must_use]
pub fn short(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(255)];
    let length = u8::try_from(bytes.len()).expect("cut above");
    [&[length], bytes].concat()
}

/// A piece as [`Input::long`] reads it; cut at 65535 bytes.
#[must_use]
pub fn long(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(65_535)];
    let length = u16::try_from(bytes.len()).expect("cut above");
    [&length.to_be_bytes(), bytes].concat()
}
