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
