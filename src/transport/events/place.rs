//! How far the reader of several channels has come, as a text that it keeps: the `id:` of server-sent events and the `cursor`
//! of a poll.
//!
//! `<cursor>` alone where everybody with rows is at the same place of the stream, which is nearly always so; behind it
//! `.r<tag>=<cursor>` for channels whose rows are elsewhere, or nowhere yet, `.b<tag>=<place>` for rooms, `.p<tag>=<digest>` for the state of
//! presence that has been told. Tags name channels ([`Lane::tag`](crate::hub::Lane::tag)), so that a request with other
//! channels goes on with those that are the same.

use std::fmt;
use std::str::FromStr;

use crate::change::Since;
use crate::room;

/// A place, taken apart. The texts of rows can be read as [`Since`], those of rooms as [`room::Since`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Of every channel with rows that has none of its own.
    pub(super) rows: Option<Box<str>>,
    /// Of channels with rows, by tag; empty for those that have to begin with the rows that there are.
    pub(super) rows_of: Vec<(u32, Box<str>)>,
    /// Of rooms, by tag.
    pub(super) rooms: Vec<(u32, Box<str>)>,
    /// Digests of what has been told of presence, by tag.
    pub(super) presence: Vec<(u32, u32)>,
}

/// The text is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled;

impl Place {
    /// From where the rows of a channel go on.
    pub(super) fn rows_of(&self, tag: u32) -> Option<&str> {
        find(&self.rows_of, tag).or(self.rows.as_deref())
    }

    /// From where a room goes on.
    pub(super) fn room(&self, tag: u32) -> Option<&str> {
        find(&self.rooms, tag)
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn find(places: &[(u32, Box<str>)], tag: u32) -> Option<&str> {
    let found = places.iter().find(|(other, _)| *other == tag);
    found.map(|(_, place)| &**place)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rows.as_deref().unwrap_or_default())?;
        for (tag, place) in &self.rows_of {
            write!(f, ".r{tag:x}={place}")?;
        }
        for (tag, place) in &self.rooms {
            write!(f, ".b{tag:x}={place}")?;
        }
        for (tag, digest) in &self.presence {
            write!(f, ".p{tag:x}={digest:x}")?;
        }
        Ok(())
    }
}

impl FromStr for Place {
    type Err = Garbled;

    fn from_str(text: &str) -> Result<Self, Garbled> {
        let mut parts = text.split('.');
        let mut place = Self::default();
        if let Some(rows) = parts.next().filter(|rows| !rows.is_empty()) {
            place.rows = Some(row_place(rows)?);
        }
        for part in parts {
            let (tag, value) = part
                .get(1..)
                .and_then(|part| part.split_once('='))
                .ok_or(Garbled)?;
            let tag = hexadecimal(tag)?;
            match part.as_bytes().first() {
                Some(b'r') if value.is_empty() => place.rows_of.push((tag, value.into())),
                Some(b'r') => place.rows_of.push((tag, row_place(value)?)),
                Some(b'b') => place.rooms.push((tag, room_place(value)?)),
                Some(b'p') => place.presence.push((tag, hexadecimal(value)?)),
                _ => return Err(Garbled),
            }
        }
        Ok(place)
    }
}

fn row_place(text: &str) -> Result<Box<str>, Garbled> {
    text.parse::<Since>().map_err(|_| Garbled)?;
    Ok(text.into())
}

fn room_place(text: &str) -> Result<Box<str>, Garbled> {
    text.parse::<room::Since>().map_err(|_| Garbled)?;
    Ok(text.into())
}

/// One to eight digits. `u32::from_str_radix` alone would take a sign.
fn hexadecimal(text: &str) -> Result<u32, Garbled> {
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    match digits {
        true => u32::from_str_radix(text, 16).map_err(|_| Garbled),
        false => Err(Garbled),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_come_back_as_they_went_out() {
        for text in [
            "",
            "5f-16b3748",
            "5f-1-2-0.r1f=5f-1-1-0.r20=5f-1",
            "5f-1~10:12:10,11.b1f=77-5",
            "5f-1~~10:12:.r1=",
            ".b1f=77-5@5f-1.p1f=0",
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_place_is_told() {
        for text in [
            "x",
            "1",
            "1-2.",
            "1-2.r",
            "1-2.r1",
            "1-2.x1=2",
            "1-2.rg=1-2",
            "1-2.b1=é",
            "1-2.p1=-1",
            "1-2\n",
            ".r123456789=1-2",
            ".é=1",
        ] {
            assert_eq!(text.parse::<Place>(), Err(Garbled), "{text:?}");
        }
    }

    #[test]
    fn a_channel_has_its_own_place_or_that_of_all() {
        let place: Place = "5f-1.r2=5f-9.b3=7-1".parse().unwrap();
        assert_eq!((place.rows_of(1), place.rows_of(2)), (Some("5f-1"), Some("5f-9")));
        assert_eq!((place.room(3), place.room(2)), (Some("7-1"), None));
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(text in "[0-9a-f.=rbp~:,é -]{0,40}") {
            if let Ok(place) = text.parse::<Place>() {
                prop_assert_eq!(place.to_string().parse::<Place>(), Ok(place));
            }
        }
    }
}
