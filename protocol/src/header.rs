//! What stands before the body of a request and of a response.
//!
//! The first eight bytes of a request never change: even one that we do not know yields its key,
//! its version and the correlation id under which to answer. The client id stays a plain nullable
//! string in flexible headers (KIP-482), and the header of an ApiVersions response is never
//! flexible (KIP-511). Pure.

use crate::api_key::ApiKey;
use crate::primitive::{Context, DecodeError, EncodeError, Reader, TaggedFields, Wire, Writer};

/// Of all header fields before the tags.
const PLAIN: Context = Context { version: 1, flexible: false };

/// Stands before each request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API; need not be one that we know.
    pub api_key: i16,
    /// Which version of it; need not be one that we know.
    pub api_version: i16,
    /// What the response shall carry, so that the client knows what it answers.
    pub correlation_id: i32,
    /// What the client calls itself. `None` also for requests that we do not know.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Appends this header. One of an unknown API is written unflexibly.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] for the client id.
    pub fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        self.api_key.encode(writer, PLAIN)?;
        self.api_version.encode(writer, PLAIN)?;
        self.correlation_id.encode(writer, PLAIN)?;
        self.client_id.encode(writer, PLAIN)?;
        let api = ApiKey::from_wire(self.api_key);
        if api.is_some_and(|api| api.is_flexible(self.api_version)) {
            TaggedFields::default().finish(writer);
        }
        Ok(())
    }

    /// Takes a header off the front of a request. Of an unknown API or version only the first
    /// three fields are read: what follows them may look like anything.
    ///
    /// # Errors
    /// When the bytes are no header.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut header = Self {
            api_key: i16::decode(reader, PLAIN)?,
            api_version: i16::decode(reader, PLAIN)?,
            correlation_id: i32::decode(reader, PLAIN)?,
            client_id: None,
        };
        if let Some(api) = header.known() {
            header.client_id = Wire::decode(reader, PLAIN)?;
            if api.is_flexible(header.api_version) {
                skip_tags(reader)?;
            }
        }
        Ok(header)
    }

    /// The API, if we speak it in this version.
    #[must_use]
    pub fn known(&self) -> Option<ApiKey> {
        ApiKey::from_wire(self.api_key).filter(|api| api.versions().contains(&self.api_version))
    }
}

/// Stands before each response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeader {
    /// That of the request.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Appends this header, as it stands before a response of `version` of `api`.
    ///
    /// # Errors
    /// None today; fallible like all of its kind.
    pub fn encode(
        &self,
        api: ApiKey,
        version: i16,
        writer: &mut Writer,
    ) -> Result<(), EncodeError> {
        self.correlation_id.encode(writer, PLAIN)?;
        if api.response_header_version(version) >= 1 {
            TaggedFields::default().finish(writer);
        }
        Ok(())
    }

    /// Takes the header of a response of `version` of `api` off the front.
    ///
    /// # Errors
    /// When the bytes are no header.
    pub fn decode(api: ApiKey, version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let correlation_id = i32::decode(reader, PLAIN)?;
        if api.response_header_version(version) >= 1 {
            skip_tags(reader)?;
        }
        Ok(Self { correlation_id })
    }
}

/// No header has a tagged field that means anything to us.
fn skip_tags(reader: &mut Reader) -> Result<(), DecodeError> {
    reader.tagged_fields(&mut |_, _| Ok(false))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages as kp;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    fn header(api_key: i16, api_version: i16, client_id: Option<&str>) -> RequestHeader {
        let client_id = client_id.map(str::to_owned);
        RequestHeader { api_key, api_version, correlation_id: 7, client_id }
    }

    fn written(header: &RequestHeader) -> Bytes {
        let mut writer = Writer::new();
        header.encode(&mut writer).unwrap();
        writer.finish().into_bytes()
    }

    #[test]
    fn request_headers_are_those_of_an_independent_codec() {
        for &api in ApiKey::ALL {
            for version in api.versions() {
                for client_id in [None, Some(""), Some("consumer-1")] {
                    let ours = header(api.to_wire(), version, client_id);
                    let theirs = kp::RequestHeader::default()
                        .with_request_api_key(api.to_wire())
                        .with_request_api_version(version)
                        .with_correlation_id(7)
                        .with_client_id(client_id.map(|id| id.to_owned().into()));
                    let mut bytes = bytes::BytesMut::new();
                    theirs.encode(&mut bytes, api.request_header_version(version)).unwrap();
                    assert_eq!(written(&ours), bytes, "{api} v{version}");
                    let mut reader = Reader::new(bytes.freeze());
                    assert_eq!(RequestHeader::decode(&mut reader), Ok(ours));
                    assert_eq!(reader.finish(), Ok(()));
                }
            }
        }
    }

    #[test]
    fn the_client_id_of_a_flexible_header_has_a_fixed_width_length() {
        let bytes = written(&header(ApiKey::Metadata.to_wire(), 12, Some("ab")));
        assert_eq!(bytes, &b"\0\x03\0\x0c\0\0\0\x07\0\x02ab\0"[..]);
    }

    #[test]
    fn an_unknown_request_still_says_how_to_answer_it() {
        for (api_key, api_version) in [(999, 0), (4, 2), (18, 99), (-1, -1), (0, 2)] {
            let mut bytes = Vec::new();
            bytes.extend(i16::to_be_bytes(api_key));
            bytes.extend(i16::to_be_bytes(api_version));
            bytes.extend(7i32.to_be_bytes());
            bytes.extend(b"\x7f\xff garbage");
            let mut reader = Reader::new(bytes.into());
            let decoded = RequestHeader::decode(&mut reader).unwrap();
            assert_eq!(decoded, header(api_key, api_version, None));
            assert_eq!(decoded.known(), None);
        }
    }

    #[test]
    fn unknown_tags_of_a_header_are_skipped() {
        let mut bytes = written(&header(ApiKey::Metadata.to_wire(), 12, None)).to_vec();
        *bytes.last_mut().unwrap() = 1;
        bytes.extend(b"\x05\x02xy");
        let mut reader = Reader::new(bytes.into());
        assert!(RequestHeader::decode(&mut reader).is_ok());
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn the_header_of_an_api_versions_response_is_never_flexible() {
        let encode = |api, version| {
            let mut writer = Writer::new();
            ResponseHeader { correlation_id: 7 }.encode(api, version, &mut writer).unwrap();
            writer.finish().into_bytes()
        };
        assert_eq!(encode(ApiKey::ApiVersions, 5), &b"\0\0\0\x07"[..]);
        assert_eq!(encode(ApiKey::Metadata, 8), &b"\0\0\0\x07"[..]);
        assert_eq!(encode(ApiKey::Metadata, 9), &b"\0\0\0\x07\0"[..]);
        let mut reader = Reader::new(encode(ApiKey::Metadata, 9));
        let decoded = ResponseHeader::decode(ApiKey::Metadata, 9, &mut reader);
        assert_eq!(decoded, Ok(ResponseHeader { correlation_id: 7 }));
        assert_eq!(reader.finish(), Ok(()));
    }
}
