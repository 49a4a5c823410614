use proptest::prelude::*;

use super::*;
use crate::limits::{
    DECODED_BYTES_FLOOR, DECODED_BYTES_PER_FRAME_BYTE, SPLICE_BYTES_MIN, STRING_BYTES_MAX,
    decode_budget,
};
use crate::wire;

const PLAIN: Context = Context { version: 0, flexible: false };
const FLEXIBLE: Context = Context { version: 0, flexible: true };

wire! {
    /// Tagged fields of several kinds.
    struct Tagged {
        /// Not tagged.
        plain: i8;
        /// A number with a default of its own.
        number: i32 = -1, tag 0;
        /// A list, in later versions alone.
        list: Vec<i32>, in 1.., tag 2;
        /// Text.
        text: Option<String>, tag 3;
    }
}

fn encoded<T: Wire>(value: &T, cx: Context) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    value.encode(&mut writer, cx)?;
    Ok(writer.finish().into_bytes())
}

fn decoded<T: Wire>(bytes: impl AsRef<[u8]>, cx: Context) -> Result<T, DecodeError> {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes.as_ref()));
    let value = T::decode(&mut reader, cx)?;
    reader.finish()?;
    Ok(value)
}

/// `value` looks like `plain` and `flexible` on the wire, and is read back from both.
fn check<T: Wire + PartialEq + std::fmt::Debug>(value: T, plain: &[u8], flexible: &[u8]) {
    for (cx, bytes) in [(PLAIN, plain), (FLEXIBLE, flexible)] {
        assert_eq!(encoded(&value, cx).unwrap(), bytes, "{value:?}");
        assert_eq!(decoded::<T>(bytes, cx).as_ref(), Ok(&value));
    }
}

#[test]
fn each_type_has_its_bytes() {
    check(-2i8, b"\xfe", b"\xfe");
    check(0x1234i16, b"\x12\x34", b"\x12\x34");
    check(-2i32, b"\xff\xff\xff\xfe", b"\xff\xff\xff\xfe");
    check(1i64, b"\0\0\0\0\0\0\0\x01", b"\0\0\0\0\0\0\0\x01");
    check(0xfffeu16, b"\xff\xfe", b"\xff\xfe");
    check(1.5f64, b"\x3f\xf8\0\0\0\0\0\0", b"\x3f\xf8\0\0\0\0\0\0");
    check(true, b"\x01", b"\x01");
    check(TopicId(*b"0123456789abcdef"), b"0123456789abcdef", b"0123456789abcdef");
    check("ab".to_owned(), b"\0\x02ab", b"\x03ab");
    check(None::<String>, b"\xff\xff", b"\0");
    check(Some("ab".to_owned()), b"\0\x02ab", b"\x03ab");
    check(Bytes::from_static(b"ab"), b"\0\0\0\x02ab", b"\x03ab");
    check(None::<Bytes>, b"\xff\xff\xff\xff", b"\0");
    check(Some(Bytes::new()), b"\0\0\0\0", b"\x01");
    check(vec![1i8, 2], b"\0\0\0\x02\x01\x02", b"\x03\x01\x02");
    check(None::<Vec<i8>>, b"\xff\xff\xff\xff", b"\0");
    check(Some(Vec::<i8>::new()), b"\0\0\0\0", b"\x01");
}

#[test]
fn any_byte_but_zero_is_true() {
    assert_eq!(decoded(b"\x02", PLAIN), Ok(true));
}

#[test]
fn a_null_is_refused_where_the_type_has_none() {
    assert_eq!(decoded::<String>(b"\xff\xff", PLAIN), Err(DecodeError::Null { at: 2 }));
    assert_eq!(decoded::<String>(b"\0", FLEXIBLE), Err(DecodeError::Null { at: 1 }));
    assert_eq!(decoded::<Bytes>(b"\0", FLEXIBLE), Err(DecodeError::Null { at: 1 }));
    assert_eq!(decoded::<Vec<i8>>(b"\0", FLEXIBLE), Err(DecodeError::Null { at: 1 }));
}

#[test]
fn a_length_that_the_frame_cannot_bear_is_refused() {
    let length = |at, length| DecodeError::Length { at, length };
    assert_eq!(decoded::<String>(b"\0\x03ab", PLAIN), Err(length(2, 3)));
    assert_eq!(decoded::<String>(b"\xff\xfe", PLAIN), Err(length(2, -2)));
    assert_eq!(decoded::<String>(b"\x05ab", FLEXIBLE), Err(length(1, 4)));
    let least = b"\x80\0\0\0";
    assert_eq!(decoded::<Option<Bytes>>(least, PLAIN), Err(length(4, i32::MIN.into())));
}

#[test]
fn a_string_longer_than_an_i16_can_say_is_refused_in_every_version() {
    let long = "x".repeat(STRING_BYTES_MAX + 1);
    let refused = EncodeError::TooLong { length: 32768, limit: 32767 };
    assert_eq!(encoded(&long, PLAIN), Err(refused));
    assert_eq!(encoded(&long, FLEXIBLE), Err(refused));
    let mut bytes = b"\x81\x80\x02".to_vec();
    bytes.extend(long.as_bytes());
    assert_eq!(
        decoded::<String>(bytes, FLEXIBLE),
        Err(DecodeError::Length { at: 3, length: 32768 })
    );
    let longest = long[1..].to_owned();
    assert_eq!(decoded(encoded(&longest, PLAIN).unwrap(), PLAIN), Ok(longest));
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    assert_eq!(decoded::<String>(b"\0\x02\xff\xff", PLAIN), Err(DecodeError::Utf8 { at: 4 }));
}

#[test]
fn a_varint_is_at_most_32_bits_long() {
    let varint = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes)).unsigned_varint();
    assert_eq!(varint(b"\xff\xff\xff\xff\x0f"), Ok(u32::MAX));
    assert_eq!(varint(b"\xff\xff\xff\xff\x1f"), Err(DecodeError::Varint { at: 0 }));
    assert_eq!(varint(b"\xff\xff\xff\xff\xff\x01"), Err(DecodeError::Varint { at: 0 }));
    assert_eq!(varint(b"\xff"), Err(DecodeError::Short { at: 1, wanted: 1 }));
}

#[test]
fn absurd_counts_are_refused_without_allocation() {
    for (bytes, cx) in [
        (&b"\x7f\xff\xff\xff"[..], PLAIN),
        (b"\x7f\xff\xff\xff\0\0\0\0", PLAIN),
        (b"\xff\xff\xff\xff\x0f\0", FLEXIBLE),
    ] {
        let mut reader = Reader::new(Bytes::from_static(bytes));
        let refused = Vec::<Tagged>::decode(&mut reader, cx);
        assert!(matches!(refused, Err(DecodeError::Length { .. })), "{refused:?}");
        assert_eq!(reader.charged(), 0);
    }
}

#[test]
fn a_count_that_the_bytes_just_bear_still_reserves_next_to_nothing() {
    let mut bytes = 1000i32.to_be_bytes().to_vec();
    bytes.extend([0x7f; 1000]);
    let mut reader = Reader::new(bytes.into());
    assert!(Vec::<String>::decode(&mut reader, PLAIN).is_err());
    assert!(reader.charged() <= 4 * size_of::<String>());
}

#[test]
fn structures_out_of_proportion_to_the_frame_are_refused() {
    /// 4 KiB of memory for a byte of the wire.
    #[derive(Debug)]
    struct Bloated([u8; 4096]);
    impl Wire for Bloated {
        fn encode(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
            writer.put_slice(&self.0[..1]);
            Ok(())
        }

        fn decode(reader: &mut Reader, _: Context) -> Result<Self, DecodeError> {
            let [byte] = reader.array()?;
            Ok(Self([byte; 4096]))
        }
    }
    let bytes = encoded(&vec![0i8; 1000], FLEXIBLE).unwrap();
    let budget = decode_budget(bytes.len());
    assert_eq!(budget, bytes.len() * DECODED_BYTES_PER_FRAME_BYTE + DECODED_BYTES_FLOOR);
    let mut reader = Reader::new(bytes);
    let refused = Vec::<Bloated>::decode(&mut reader, FLEXIBLE);
    assert!(matches!(refused, Err(DecodeError::Budget { .. })));
    assert!(reader.charged() <= budget);
}

#[test]
fn default_tags_are_omitted_and_the_others_ascend() {
    let later = Context { version: 1, flexible: true };
    assert_eq!(encoded(&Tagged::default(), later).unwrap(), &b"\0\0"[..]);
    let full = Tagged { plain: 1, number: 7, list: vec![5], text: Some("a".to_owned()) };
    let bytes = b"\x01\x03\x00\x04\0\0\0\x07\x02\x05\x02\0\0\0\x05\x03\x02\x02a";
    assert_eq!(encoded(&full, later).unwrap(), &bytes[..]);
    assert_eq!(decoded(bytes, later), Ok(full));
}

#[test]
fn unknown_tags_are_skipped_and_cost_nothing() {
    // Tag 1 is nobody's, tag 2 not of this version, tag 9 nobody's.
    let bytes = b"\x01\x04\x00\x04\0\0\0\x07\x01\x03abc\x02\x01\x01\x09\x00";
    let mut reader = Reader::new(Bytes::from_static(bytes));
    let message = Tagged::decode(&mut reader, FLEXIBLE).unwrap();
    assert_eq!(message, Tagged { plain: 1, number: 7, ..Tagged::default() });
    assert_eq!(reader.finish(), Ok(()));
    assert_eq!(reader.charged(), 0);
}

#[test]
fn a_known_tag_reads_its_own_bytes_all_of_them_and_no_others() {
    // Four bytes of number in a field of five, then of three.
    let over = decoded::<Tagged>(b"\x01\x01\x00\x05\0\0\0\x07\0", FLEXIBLE);
    assert_eq!(over, Err(DecodeError::Trailing { at: 8, bytes: 1 }));
    let under = decoded::<Tagged>(b"\x01\x01\x00\x03\0\0\0\x07", FLEXIBLE);
    assert_eq!(under, Err(DecodeError::Short { at: 4, wanted: 4 }));
}

#[test]
fn tags_must_ascend_and_stay_within_the_frame() {
    let decode = |bytes: &[u8]| decoded::<Tagged>(bytes, FLEXIBLE).unwrap_err();
    assert_eq!(decode(b"\0\x02\x09\x00\x08\x00"), DecodeError::TagOrder { at: 5, tag: 8 });
    assert_eq!(decode(b"\0\x02\x09\x00\x09\x00"), DecodeError::TagOrder { at: 5, tag: 9 });
    assert_eq!(decode(b"\0\x01\x09\x01"), DecodeError::Length { at: 4, length: 1 });
    let many = b"\0\xff\xff\xff\xff\x0f";
    assert_eq!(decode(many), DecodeError::Length { at: 6, length: u32::MAX.into() });
}

#[test]
fn large_byte_fields_are_spliced_in_place_even_within_tags() {
    let large = Bytes::from(vec![9; SPLICE_BYTES_MIN]);
    let small = Bytes::from(vec![8; SPLICE_BYTES_MIN - 1]);
    let mut writer = Writer::new();
    small.encode(&mut writer, FLEXIBLE).unwrap();
    let mut tagged = TaggedFields::default();
    tagged.put(4, &large, FLEXIBLE).unwrap();
    tagged.put(5, &vec![large.clone(), large.clone()], FLEXIBLE).unwrap();
    tagged.finish(&mut writer);
    true.encode(&mut writer, FLEXIBLE).unwrap();
    let length = writer.len();
    let frame = writer.finish_frame().unwrap();
    assert_eq!(frame.len(), length + 4);
    let spliced = frame.parts().iter().filter(|part| part.as_ptr() == large.as_ptr());
    assert_eq!(spliced.count(), 3);
    assert_eq!(frame.parts().iter().map(Bytes::len).sum::<usize>(), frame.len());

    let bytes = frame.into_bytes();
    assert_eq!(bytes[..4], i32::try_from(length).unwrap().to_be_bytes());
    let mut reader = Reader::new(bytes.slice(4..));
    assert_eq!(Bytes::decode(&mut reader, FLEXIBLE), Ok(small));
    let mut seen = Vec::new();
    let known = &mut |tag, reader: &mut Reader| {
        match tag {
            4 => seen.push(Bytes::decode(reader, FLEXIBLE)?),
            _ => seen.extend(Vec::<Bytes>::decode(reader, FLEXIBLE)?),
        }
        Ok(true)
    };
    reader.tagged_fields(known).unwrap();
    assert_eq!(seen, [large.clone(), large.clone(), large]);
    assert_eq!(bool::decode(&mut reader, FLEXIBLE), Ok(true));
    assert_eq!(reader.finish(), Ok(()));
}

proptest! {
    #[test]
    fn every_varint_survives(value: u32) {
        let mut writer = Writer::new();
        writer.put_unsigned_varint(value);
        let mut reader = Reader::new(writer.finish().into_bytes());
        prop_assert_eq!(reader.unsigned_varint(), Ok(value));
        prop_assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn every_nesting_of_lists_and_text_survives(
        value: Option<Vec<Option<u16>>>,
        texts: Vec<String>,
        bytes: Vec<u8>,
        flexible: bool,
    ) {
        let cx = Context { version: 0, flexible };
        let numbers = value.map(|numbers| numbers.into_iter().flatten().collect::<Vec<_>>());
        prop_assert_eq!(decoded(encoded(&numbers, cx).unwrap(), cx), Ok(numbers));
        prop_assert_eq!(decoded(encoded(&texts, cx).unwrap(), cx), Ok(texts));
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(decoded(encoded(&bytes, cx).unwrap(), cx), Ok(bytes));
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_overspend(bytes: Vec<u8>, flexible: bool) {
        let budget = decode_budget(bytes.len());
        let mut reader = Reader::new(bytes.into());
        let cx = Context { version: 1, flexible };
        let _ = Vec::<Tagged>::decode(&mut reader, cx);
        prop_assert!(reader.charged() <= budget);
    }
}
