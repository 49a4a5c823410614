//! The subject of a certificate, as RFC 2253 writes it: `CN=orders,OU=payments,O=Example,C=US`.
//!
//! So Kafka knows clients by their certificates, in Java's manner: the parts in reverse order,
//! names for nine of their types, numbers and bytes for all others. The certificate has been
//! verified before; what cannot be read all the same yields nothing, and its client is refused.
//! Of the broker's own it tells when it expires. Pure.

use protocol::time::Timestamp;

/// DER's tags.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The subject of a certificate in DER. `None`: it cannot be read.
#[must_use]
pub(crate) fn subject(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = inside(certificate, SEQUENCE)?;
    let (signed, _) = inside(certificate, SEQUENCE)?;
    let rest = match inside(signed, VERSION) {
        Some((_, rest)) => rest,
        None => signed,
    };
    // Serial number, algorithm, issuer, validity; then the subject.
    let mut rest = rest;
    for _ in 0..4 {
        (_, _, rest) = element(rest)?;
    }
    let (names, _) = inside(rest, SEQUENCE)?;
    let mut parts = Vec::new();
    let mut names = names;
    while !names.is_empty() {
        let (set, left) = inside(names, SET)?;
        parts.push(relative_name(set)?);
        names = left;
    }
    parts.reverse();
    Some(parts.join(","))
}

/// When a certificate in DER expires. `None`: it cannot be read.
#[must_use]
pub fn expires_at(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = inside(certificate, SEQUENCE)?;
    let (signed, _) = inside(certificate, SEQUENCE)?;
    let mut rest = inside(signed, VERSION).map_or(signed, |(_, rest)| rest);
    // Serial number, algorithm, issuer; then the validity: from when and until when.
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (validity, _) = inside(rest, SEQUENCE)?;
    let (_, _, until) = element(validity)?;
    let (tag, until, _) = element(until)?;
    let digits = str::from_utf8(until).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        // Two digits: from 1950 to 2049.
        UTC_TIME => {
            let year = number(digits.get(..2)?)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, digits.get(2..)?)
        }
        GENERALIZED_TIME => (number(digits.get(..4)?)?, digits.get(4..)?),
        _ => return None,
    };
    let mut parts = [0; 5];
    for (at, part) in parts.iter_mut().enumerate() {
        *part = number(rest.get(2 * at..2 * at + 2)?)?;
    }
    let [month, day, hour, minute, second] = parts;
    let is_date = rest.len() == 10 && (1..=12).contains(&month) && (1..=31).contains(&day);
    let seconds = (days_since_1970(year, month, day) * 24 + hour) * 3600 + minute * 60 + second;
    is_date.then_some(Timestamp(seconds * 1000))
}

fn number(digits: &str) -> Option<i64> {
    let is_number = digits.bytes().all(|it| it.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March on, so
/// that the day that leap years add is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    /// Days from 0000-03-01 to 1970-01-01.
    const BEFORE_1970: i64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Five months from March on have 153 days, again and again.
    let of_months = (153 * month + 2) / 5;
    year * 365 + leap_days + of_months + day - 1 - BEFORE_1970
}

/// One part of a name; seldom of several types and values.
fn relative_name(mut set: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !set.is_empty() {
        let (pair, left) = inside(set, SEQUENCE)?;
        let (oid, value) = inside(pair, OID)?;
        parts.push(attribute(oid, value)?);
        set = left;
    }
    Some(parts.join("+"))
}

fn attribute(oid: &[u8], value: &[u8]) -> Option<String> {
    let (tag, content, rest) = element(value)?;
    if !rest.is_empty() {
        return None;
    }
    match (keyword(oid), text(tag, content)) {
        (Some(keyword), Some(text)) => Some(format!("{keyword}={}", escaped(&text))),
        (keyword, _) => {
            let name = keyword.map(str::to_owned).or_else(|| dotted(oid))?;
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("{name}=#{hex}"))
        }
    }
}

fn keyword(oid: &[u8]) -> Option<&'static str> {
    match oid {
        [0x55, 0x04, 0x03] => Some("CN"),
        [0x55, 0x04, 0x06] => Some("C"),
        [0x55, 0x04, 0x07] => Some("L"),
        [0x55, 0x04, 0x08] => Some("ST"),
        [0x55, 0x04, 0x09] => Some("STREET"),
        [0x55, 0x04, 0x0a] => Some("O"),
        [0x55, 0x04, 0x0b] => Some("OU"),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => Some("DC"),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => Some("UID"),
        _ => None,
    }
}

/// An object identifier in decimals.
fn dotted(oid: &[u8]) -> Option<String> {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for &byte in oid {
        number = number.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            numbers.push(number);
            number = 0;
        }
    }
    let (&first, rest) = numbers.split_first()?;
    let root = (first / 40).min(2);
    let all = [root, first - root * 40].into_iter().chain(rest.iter().copied());
    Some(all.map(|number| number.to_string()).collect::<Vec<_>>().join("."))
}

/// The text of a value. `None`: it is none.
fn text(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        // UTF8String.
        0x0c => Some(str::from_utf8(content).ok()?.to_owned()),
        // PrintableString and IA5String.
        0x13 | 0x16 if content.is_ascii() => Some(str::from_utf8(content).ok()?.to_owned()),
        // TeletexString, of which Latin-1 is what was ever meant.
        0x14 => Some(content.iter().copied().map(char::from).collect()),
        // BMPString.
        0x1e => {
            let pairs = content.chunks_exact(2);
            if !pairs.remainder().is_empty() {
                return None;
            }
            let units = pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}

/// A value as RFC 2253 writes it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, it) in text.chars().enumerate() {
        let is_special = matches!(it, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=');
        let is_edge = (at == 0 && matches!(it, ' ' | '#')) || (at == last && it == ' ');
        if is_special || is_edge {
            escaped.push('\\');
        }
        escaped.push(it);
    }
    escaped
}

/// Content of the first element, which must be of this tag, and what follows it.
fn inside(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    (tag == wanted).then_some((content, rest))
}

/// Tag and content of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // Nothing of 4 GiB or more comes in a handshake.
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) || rest.len() < count {
            return None;
        }
        let (digits, rest) = rest.split_at(count);
        (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
    };
    (length <= rest.len()).then(|| {
        let (content, rest) = rest.split_at(length);
        (tag, content, rest)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        let head = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
        [&head, content].concat()
    }

    fn pair(oid: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        der(SEQUENCE, &[der(OID, oid), der(tag, value)].concat())
    }

    fn certificate(has_version: bool, names: &[Vec<Vec<u8>>]) -> Vec<u8> {
        let names: Vec<u8> = names.iter().flat_map(|set| der(SET, &set.concat())).collect();
        let version = if has_version { der(VERSION, &[2, 1, 2]) } else { Vec::new() };
        let empty = der(SEQUENCE, &[]);
        let signed = [version, der(2, &[7]), empty.clone(), empty.clone(), empty.clone()].concat();
        let signed = [signed, der(SEQUENCE, &names), empty].concat();
        der(SEQUENCE, &der(SEQUENCE, &signed))
    }

    const CN: &[u8] = &[0x55, 4, 3];
    const O: &[u8] = &[0x55, 4, 10];
    const C: &[u8] = &[0x55, 4, 6];
    const EMAIL: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];

    #[test]
    fn the_parts_of_a_name_are_written_in_reverse_order() {
        let names = [
            vec![pair(C, 0x13, b"US")],
            vec![pair(O, 0x0c, "Exämple, Inc.".as_bytes())],
            vec![pair(CN, 0x0c, b"#a+b "), pair(O, 0x1e, &[0, b'x', 0, b'y'])],
        ];
        let want = "CN=\\#a\\+b\\ +O=xy,O=Exämple\\, Inc.,C=US";
        assert_eq!(subject(&certificate(true, &names)).as_deref(), Some(want));
        assert_eq!(subject(&certificate(false, &names)).as_deref(), Some(want));
        assert_eq!(subject(&certificate(true, &[])).as_deref(), Some(""));
    }

    #[test]
    fn types_without_a_name_are_written_as_numbers_and_bytes() {
        let names = [vec![pair(EMAIL, 0x16, b"a@b")]];
        let want = "1.2.840.113549.1.9.1=#1603614062";
        assert_eq!(subject(&certificate(true, &names)).as_deref(), Some(want));
        let names = [vec![pair(CN, 0x02, &[5])]];
        assert_eq!(subject(&certificate(true, &names)).as_deref(), Some("CN=#020105"));
    }

    fn expiring(tag: u8, until: &str) -> Vec<u8> {
        let empty = der(SEQUENCE, &[]);
        let from = der(UTC_TIME, b"200101000000Z");
        let validity = der(SEQUENCE, &[from, der(tag, until.as_bytes())].concat());
        let signed = [der(VERSION, &[2, 1, 2]), der(2, &[7]), empty.clone(), empty, validity];
        der(SEQUENCE, &der(SEQUENCE, &signed.concat()))
    }

    #[test]
    fn certificates_say_when_they_expire() {
        for (tag, until, seconds) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (UTC_TIME, "240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "20240301000000Z", Some(1_709_251_200)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "19691231235959Z", Some(-1)),
            (UTC_TIME, "2402291200Z", None),
            (UTC_TIME, "240229120000+0100", None),
            (UTC_TIME, "24022912000xZ", None),
            (UTC_TIME, "241329120000Z", None),
            (OID, "240229120000Z", None),
        ] {
            let want = seconds.map(|it: i64| Timestamp(it * 1000));
            assert_eq!(expires_at(&expiring(tag, until)), want, "{until}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_reading_them_ends(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            cut in 0..200_usize,
        ) {
            let _ = (subject(&bytes), expires_at(&bytes));
            let mut whole = certificate(true, &[vec![pair(CN, 0x0c, b"a")]]);
            let at = cut % whole.len();
            whole.truncate(at);
            assert_eq!(subject(&whole), None);
        }
    }
}
