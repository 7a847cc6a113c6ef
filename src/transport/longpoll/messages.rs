//! What a client posts: one message, or one on each line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::protocol::{ClientMessage, Malformed, Version, decode_binary, decode_text};

/// The media type of several messages, one on each line.
pub(super) const LINES: &str = "application/x-ndjson";

/// A body, taken apart message by message.
#[derive(Debug)]
pub(super) struct Messages {
    rest: Bytes,
    lines: bool,
}

impl Messages {
    /// Of a body of this media type.
    pub(super) fn new(body: Bytes, media: Option<&str>) -> Self {
        let essence = media
            .and_then(|media| media.split(';').next())
            .unwrap_or_default();
        Self {
            rest: body,
            lines: essence.trim().eq_ignore_ascii_case(LINES),
        }
    }
}

impl Iterator for Messages {
    type Item = Bytes;

    /// The next one that is not blank.
    fn next(&mut self) -> Option<Bytes> {
        while !self.rest.is_empty() {
            let end = match self.lines {
                true => self.rest.iter().position(|byte| *byte == b'\n'),
                false => None,
            };
            let mut message = self.rest.split_to(end.map_or(self.rest.len(), |at| at + 1));
            let text = message.trim_ascii();
            if !text.is_empty() {
                message = message.slice_ref(text);
                return Some(message);
            }
        }
        None
    }
}

/// Decodes a message: JSON, or else a binary frame in base64. Its bytes are put into `frame`.
pub(super) fn decode<'a>(
    version: Version,
    message: &'a [u8],
    frame: &'a mut Vec<u8>,
) -> Result<ClientMessage<'a>, Malformed> {
    let is_json = matches!(message.first(), Some(b'[' | b'{'));
    if !is_json && let Ok(bytes) = STANDARD.decode(message) {
        *frame = bytes;
        return decode_binary(version, frame);
    }
    // What is no text is no message either, and there is no better place to name.
    decode_text(version, std::str::from_utf8(message).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{BroadcastPayload, Payload};

    fn messages(body: &'static str, media: Option<&str>) -> Vec<Bytes> {
        Messages::new(Bytes::from_static(body.as_bytes()), media).collect()
    }

    #[test]
    fn lines_are_messages_only_where_it_says_so() {
        let body = "\n[1]\r\n\r\n [2] \n\n[3]";
        for media in ["application/x-ndjson", "Application/X-NDJSON; charset=utf-8"] {
            assert_eq!(messages(body, Some(media)), ["[1]", "[2]", "[3]"]);
        }
        for media in [None, Some("application/json"), Some("text/plain;charset=UTF-8")] {
            assert_eq!(messages(body, media), [body.trim()]);
            assert!(messages(" \n ", media).is_empty() && messages("", media).is_empty());
        }
    }

    #[test]
    fn json_is_text_and_the_rest_is_base64() {
        let mut frame = Vec::new();
        let text = br#"["1","2","t","e",{}]"#;
        for version in [Version::V2, Version::V2Text] {
            assert_eq!(decode(version, text, &mut frame).unwrap().topic, "t");
        }
        let text = br#"{"topic":"t","event":"e","payload":{},"ref":null}"#;
        assert_eq!(decode(Version::V1, text, &mut Vec::new()).unwrap().topic, "t");
        let kind_three = [&[3, 0, 0, 1, 1, 0, 1][..], b"te{}"].concat();
        let encoded = STANDARD.encode(kind_three);
        let mut frame = Vec::new();
        let message = decode(Version::V2Text, encoded.as_bytes(), &mut frame).unwrap();
        let Payload::Broadcast { event, payload, .. } = message.payload else {
            panic!("{message:?}")
        };
        assert!(event == "e" && matches!(payload, BroadcastPayload::Json(json) if json.get() == "{}"));
    }

    proptest! {
        #[test]
        fn never_panics(body in any::<Vec<u8>>(), lines in any::<bool>()) {
            let media = lines.then_some(LINES);
            for message in Messages::new(body.into(), media) {
                prop_assert!(!message.is_empty());
                for version in [Version::V1, Version::V2Text] {
                    let _ = decode(version, &message, &mut Vec::new());
                }
            }
        }
    }

    #[test]
    fn rubbish_is_malformed_in_either_version() {
        for rubbish in [
            &b"["[..],
            b"{",
            b"!",
            b"\xff\xfe",
            b"[\xff]",
            b"AwDI",
            b"AAA",
            b"null",
            b"42",
        ] {
            for version in [Version::V1, Version::V2Text] {
                assert!(decode(version, rubbish, &mut Vec::new()).is_err(), "{rubbish:?}");
            }
        }
    }
}
