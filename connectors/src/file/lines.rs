//! Cutting a window of a file into lines.
//!
//! A line ends with `\n` or `\r\n`, which is not part of it; a line without bytes is a line. What follows the
//! last newline is held back, as more may come, unless the window is the file's end and the last line shall be
//! delivered as it is. A line longer than allowed is delivered in pieces. Each piece after a line's first
//! one *continues* it, also when it comes in a later run: so the lines of a file are exactly the pieces
//! that do not continue one, and every byte but the newlines is delivered once. Pure.

use std::io::BufRead;
use std::ops::Range;

/// What to do with bytes behind the last newline of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Hold them back: more will come, or may.
    Hold,
    /// They are the file's last line.
    Deliver,
}

/// A line, or a piece of one, within a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where its bytes are, without the newline.
    pub(crate) range: Range<usize>,
    /// True when it continues the piece before.
    pub(crate) continues: bool,
    /// True when it was cut for its length, and the rest follows.
    pub(crate) was_cut: bool,
}

/// Iterates over the pieces of a window.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    window: &'a [u8],
    at: usize,
    line_open: bool,
    line_bytes_max: usize,
    rest: Rest,
}

impl<'a> Lines<'a> {
    /// The pieces of `window[from..]`; `line_open` as of the mark at `from`.
    pub(crate) fn new(
        window: &'a [u8],
        from: usize,
        line_open: bool,
        line_bytes_max: usize,
        rest: Rest,
    ) -> Self {
        assert!(line_bytes_max > 0);
        assert!(from <= window.len());
        Self { window, at: from, line_open, line_bytes_max, rest }
    }

    /// Up to where the pieces returned so far reach, newlines included.
    pub(crate) fn consumed(&self) -> usize {
        self.at
    }

    /// Whether the last piece lacks its newline.
    pub(crate) fn line_open(&self) -> bool {
        self.line_open
    }

    fn piece(&mut self, len: usize, skip: usize, line_open: bool, was_cut: bool) -> Piece {
        let piece = Piece { range: self.at..self.at + len, continues: self.line_open, was_cut };
        self.at += len + skip;
        self.line_open = line_open;
        piece
    }
}

impl Iterator for Lines<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        loop {
            // `skip_until` of a slice is memchr.
            let mut rest = &self.window[self.at..];
            let searched = rest.skip_until(b'\n').expect("a slice cannot fail to be read");
            let line = &self.window[self.at..self.at + searched];
            let (len, newline) = match line {
                [bare @ .., b'\r', b'\n'] => (bare.len(), 2),
                [bare @ .., b'\n'] => (bare.len(), 1),
                bare => (bare.len(), 0),
            };
            if len > self.line_bytes_max {
                return Some(self.piece(self.line_bytes_max, 0, true, !self.line_open));
            }
            if newline == 0 {
                let deliver = len > 0 && self.rest == Rest::Deliver;
                return deliver.then(|| self.piece(len, 0, true, false));
            }
            if len > 0 || !self.line_open {
                return Some(self.piece(len, newline, false, false));
            }
            // The newline of a line that was delivered without it.
            self.at += newline;
            self.line_open = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(window: &str, line_open: bool, rest: Rest, want: &[&str], consumed: usize) {
        let mut lines = Lines::new(window.as_bytes(), 0, line_open, 5, rest);
        let got: Vec<String> = lines
            .by_ref()
            .map(|piece| {
                format!("{}{}", if piece.continues { "+" } else { "" }, &window[piece.range])
            })
            .collect();
        assert_eq!(got, want);
        assert_eq!(lines.consumed(), consumed);
    }

    #[test]
    fn lines_end_with_either_newline_and_may_be_empty() {
        check("ab\n\nc\r\n\r\n", false, Rest::Hold, &["ab", "", "c", ""], 9);
    }

    #[test]
    fn the_rest_is_held_back_or_delivered() {
        check("ab\ncd", false, Rest::Hold, &["ab"], 3);
        check("ab\ncd", false, Rest::Deliver, &["ab", "cd"], 5);
        check("ab\n", false, Rest::Deliver, &["ab"], 3);
        check("", false, Rest::Deliver, &[], 0);
    }

    #[test]
    fn what_follows_a_delivered_rest_continues_it_and_a_bare_newline_is_no_line() {
        check("xy\nz\n", true, Rest::Hold, &["+xy", "z"], 5);
        check("\nz\n", true, Rest::Hold, &["z"], 3);
        check("\r\n\n", true, Rest::Hold, &[""], 3);
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        check("123456789012\nx\n", false, Rest::Hold, &["12345", "+67890", "+12", "x"], 15);
        check("12345\n", false, Rest::Hold, &["12345"], 6);
        check("1234567890\n", false, Rest::Hold, &["12345", "+67890"], 11);
        check("123456", false, Rest::Hold, &["12345"], 5);
    }

    proptest! {
        /// However the file grows and is read, lines are counted and bytes kept as if read at once.
        #[test]
        fn pieces_that_do_not_continue_are_the_lines(
            content in "[ab\n]{0,80}",
            cuts in proptest::collection::vec((0_usize..20, any::<bool>()), 0..10),
        ) {
            let (mut pos, mut open) = (0, false);
            let mut lines: Vec<String> = Vec::new();
            let mut end = 0;
            for (step, deliver) in cuts.into_iter().chain([(usize::MAX / 2, true)]) {
                end = (end + step).min(content.len());
                let rest = if deliver { Rest::Deliver } else { Rest::Hold };
                let mut cutter = Lines::new(&content.as_bytes()[..end], pos, open, 3, rest);
                for piece in cutter.by_ref() {
                    if !piece.continues {
                        lines.push(String::new());
                    }
                    lines.last_mut().unwrap().push_str(&content[piece.range]);
                }
                (pos, open) = (cutter.consumed(), cutter.line_open());
            }
            prop_assert_eq!(lines, content.lines().collect::<Vec<_>>());
            prop_assert_eq!(pos, content.len());
        }
    }
}
