//! The messages of a replication connection as bytes (manual, "Message Formats" and "Streaming Replication
//! Protocol"). Pure: borrowed frames out of a buffer, and the few messages we write.

use bytes::{BufMut, BytesMut};

use crate::change::Lsn;

/// Postgres counts time in microseconds from 2000-01-01, this many after the Unix epoch.
pub(super) const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// A message of Postgres is bounded by its 1 GiB allocation limit; a length past it is not one.
const MAX_FRAME: usize = 1 << 30;
const HEADER: usize = 5;

/// The bytes are not a message of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the Postgres protocol: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// One backend message: its type and what follows the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of the whole message.
    pub(super) fn len(&self) -> usize {
        HEADER + self.body.len()
    }
}

/// The first whole message in `buffer`, if there is one.
pub(super) fn frame(buffer: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let Some((header, rest)) = buffer.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let [tag, length @ ..] = *header;
    let length = u32::from_be_bytes(length) as usize;
    if !(4..=MAX_FRAME).contains(&length) {
        return Err(Malformed("impossible message length"));
    }
    Ok(rest.get(..length - 4).map(|body| Frame { tag, body }))
}

/// What a `CopyData` message of a walsender holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replication<'a> {
    /// Output of the plugin.
    XLogData {
        /// Where the WAL of this message starts; for a commit the end of its record.
        start: Lsn,
        /// What the plugin printed.
        payload: &'a [u8],
    },
    /// The sender is alive.
    Keepalive {
        /// Everything before this has been sent.
        wal_end: Lsn,
        /// Whether it wants a status update at once.
        reply: bool,
    },
}

/// Reads the body of a `CopyData` message.
pub(super) fn replication(body: &[u8]) -> Result<Replication<'_>, Malformed> {
    match body.split_first() {
        Some((b'w', rest)) => {
            let (start, rest) = position(rest)?;
            let payload = rest.get(16..).ok_or(Malformed("short XLogData"))?;
            Ok(Replication::XLogData { start, payload })
        }
        Some((b'k', rest)) => {
            let (wal_end, rest) = position(rest)?;
            let reply = *rest.get(8).ok_or(Malformed("short keepalive"))? != 0;
            Ok(Replication::Keepalive { wal_end, reply })
        }
        _ => Err(Malformed("unknown replication message")),
    }
}

fn position(bytes: &[u8]) -> Result<(Lsn, &[u8]), Malformed> {
    let (number, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or(Malformed("short replication message"))?;
    Ok((Lsn(u64::from_be_bytes(*number)), rest))
}

/// What we tell the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// Received.
    pub(super) written: Lsn,
    /// Handed over: the slot need not keep anything before this.
    pub(super) flushed: Lsn,
    /// Whether we want a keepalive at once.
    pub(super) reply: bool,
}

/// Appends a standby status update.
pub(super) fn write_status(status: Status, unix_micros: i64, out: &mut BytesMut) {
    out.put_u8(b'd');
    out.put_i32(4 + 1 + 4 * 8 + 1);
    out.put_u8(b'r');
    out.put_u64(status.written.0);
    out.put_u64(status.flushed.0);
    out.put_u64(status.flushed.0);
    out.put_i64(unix_micros.saturating_sub(POSTGRES_EPOCH_MICROS));
    out.put_u8(u8::from(status.reply));
}

/// The values of a `DataRow` message, in text format.
pub(super) fn data_row(body: &[u8]) -> Result<Vec<Option<String>>, Malformed> {
    let short = Malformed("short DataRow");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(short)?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(short)?;
        rest = after;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            values.push(None);
            continue;
        };
        let (value, after) = rest.split_at_checked(length).ok_or(short)?;
        rest = after;
        values.push(Some(String::from_utf8_lossy(value).into_owned()));
    }
    Ok(values)
}

/// The fields of an `ErrorResponse` or `NoticeResponse`: one byte naming the field, its text.
pub(super) fn error_fields(body: &[u8]) -> Vec<(u8, String)> {
    body.split(|byte| *byte == 0)
        .filter_map(|field| field.split_first())
        .map(|(name, text)| (*name, String::from_utf8_lossy(text).into_owned()))
        .collect()
}

/// The two zero-terminated strings of a `ParameterStatus`.
pub(super) fn parameter(body: &[u8]) -> Option<(&str, &str)> {
    let mut parts = body.split(|byte| *byte == 0).map(std::str::from_utf8);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_out_one_by_one() {
        let bytes = b"Z\0\0\0\x05Id\0\0\0\x06ab1";
        let first = frame(bytes).unwrap().unwrap();
        assert_eq!(
            first,
            Frame {
                tag: b'Z',
                body: b"I"
            }
        );
        let second = frame(&bytes[first.len()..]).unwrap().unwrap();
        assert_eq!(
            second,
            Frame {
                tag: b'd',
                body: b"ab"
            }
        );
        assert_eq!(frame(&bytes[first.len() + second.len()..]).unwrap(), None);
        assert_eq!(frame(b"").unwrap(), None);
        assert_eq!(frame(b"d\0\0\0\x06a").unwrap(), None, "cut short");
        assert!(frame(b"d\0\0\0\x03").is_err());
        assert!(frame(b"d\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn replication_messages() {
        let data = b"w\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\x03\0\0\0\0\0\0\0\0{}";
        assert_eq!(
            replication(data),
            Ok(Replication::XLogData {
                start: Lsn(0x1_0000_0002),
                payload: b"{}"
            })
        );
        let keepalive = b"k\0\0\0\0\x01\x5e\x1e\xd0\0\x02\xf0\x11\x22\x33\x44\x55\x01";
        assert_eq!(
            replication(keepalive),
            Ok(Replication::Keepalive {
                wal_end: Lsn(0x15E_1ED0),
                reply: true
            })
        );
        for cut in 0..keepalive.len() {
            assert!(replication(&keepalive[..cut]).is_err());
        }
        for cut in 0..25 {
            assert!(replication(&data[..cut]).is_err());
        }
        assert!(replication(b"x").is_err());
    }

    #[test]
    fn a_status_update_is_these_bytes() {
        let mut out = BytesMut::new();
        let status = Status {
            written: Lsn(0x0102_0304_0506_0708),
            flushed: Lsn(9),
            reply: true,
        };
        write_status(status, POSTGRES_EPOCH_MICROS + 258, &mut out);
        assert_eq!(
            &out[..],
            b"d\0\0\0\x26r\x01\x02\x03\x04\x05\x06\x07\x08\
              \0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\x01\x02\x01"
        );
    }

    #[test]
    fn rows_errors_and_parameters() {
        let row = b"\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0";
        let values = data_row(row).unwrap();
        assert_eq!(values, [Some("a".to_owned()), None, Some(String::new())]);
        for cut in 0..row.len() {
            assert!(data_row(&row[..cut]).is_err());
        }
        let fields = error_fields(b"SFATAL\0C28P01\0Mno\0\0");
        assert_eq!(fields[1], (b'C', "28P01".to_owned()));
        assert_eq!(fields.len(), 3);
        assert_eq!(parameter(b"TimeZone\0UTC\0"), Some(("TimeZone", "UTC")));
        assert_eq!(parameter(b"TimeZone"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = frame(&bytes);
            let _ = replication(&bytes);
            let _ = data_row(&bytes);
            let _ = error_fields(&bytes);
            let _ = parameter(&bytes);
        }

        #[test]
        fn what_is_framed_comes_back(tag: u8, body in proptest::collection::vec(any::<u8>(), 0..64), more: Vec<u8>) {
            let mut bytes = vec![tag];
            bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            bytes.extend_from_slice(&body);
            bytes.extend_from_slice(&more);
            prop_assert_eq!(frame(&bytes).unwrap(), Some(Frame { tag, body: &body }));
        }
    }
}
