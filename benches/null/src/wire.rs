//! Requests read and responses written field by field, and a batch's checksum.
//!
//! Big endian, as Kafka has it. A request that ends too early is an error. Pure.

use std::io;

use crc_fast::{CrcAlgorithm, checksum};

/// 61: the header of a batch.
const HEADER_BYTES: usize = 61;

/// Checks a batch; gives how many records it has.
pub fn verify(batch: &[u8]) -> io::Result<i32> {
    if batch.len() < HEADER_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let told = u32::from_be_bytes(batch[17..21].try_into().expect("four bytes"));
    if checksum(CrcAlgorithm::Crc32Iscsi, &batch[21..]) != u64::from(told) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(i32::from_be_bytes(batch[57..61].try_into().expect("four bytes")))
}

/// A request, read from its front.
pub struct Request<'a> {
    rest: &'a mut [u8],
}

impl<'a> Request<'a> {
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, bytes: usize) -> io::Result<&'a mut [u8]> {
        let taken = std::mem::take(&mut self.rest).split_at_mut_checked(bytes);
        let (taken, rest) = taken.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        Ok((&*self.take(N)?).try_into().expect("as many were taken"))
    }

    pub fn i8(&mut self) -> io::Result<i8> {
        self.array().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> io::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// A text; null reads as empty.
    pub fn text(&mut self) -> io::Result<&'a str> {
        let bytes = usize::try_from(self.i16()?).unwrap_or_default();
        std::str::from_utf8(self.take(bytes)?).map_err(io::Error::other)
    }

    pub fn bytes(&mut self) -> io::Result<&'a mut [u8]> {
        let bytes = usize::try_from(self.i32()?).unwrap_or_default();
        self.take(bytes)
    }
}

/// A response, written to its end. Its buffer is used again.
#[derive(Default)]
pub struct Response {
    bytes: Vec<u8>,
}

impl Response {
    /// Forgets what was there; leaves room for the length.
    pub fn begin(&mut self, correlation: i32) {
        self.bytes.clear();
        self.i32(0).i32(correlation);
    }

    /// All of it with its length, which also counts `tail` bytes that follow.
    pub fn framed(&mut self, tail: usize) -> &[u8] {
        let length =
            u32::try_from(self.bytes.len() - 4 + tail).expect("a response is no gigabytes");
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        &self.bytes
    }

    pub fn i8(&mut self, value: i8) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        let length = i16::try_from(text.len()).expect("names are short");
        self.i16(length).put(text.as_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }
}
