//! The token of a session: 128 random bits that name it, and the number of the batch that it came with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Names a session. Who has it, has the session: nothing else is asked of a request.
pub(super) type Key = [u8; 16];

/// A name that nobody can guess.
pub(super) fn new_key() -> Key {
    rand::random()
}

/// The token that shows that all up to batch `number` has been read.
pub(super) fn token(key: Key, number: u64) -> String {
    format!("{}.{number}", URL_SAFE_NO_PAD.encode(key))
}

/// What a token says; `None` if it is none of ours.
pub(super) fn read(token: &str) -> Option<(Key, u64)> {
    let (key, number) = token.split_once('.')?;
    let key = URL_SAFE_NO_PAD.decode(key).ok()?.try_into().ok()?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((key, number.parse().ok().filter(|_| plain)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_went_into_it_and_nothing_else_is_one() {
        let key = new_key();
        for number in [0, 1, u64::MAX] {
            assert_eq!(read(&token(key, number)), Some((key, number)));
        }
        let good = token(key, 1);
        for wrong in [
            "",
            ".",
            "null",
            "undefined",
            ".1",
            "AAAA.1",
            "é.1",
            &format!("{good}9999999999999999999"),
            &good.replace(".1", ".+1"),
            &good.replace(".1", ""),
            &good.replace(".1", "."),
            &good.replace(".1", ".-1"),
            &format!("A{good}"),
            &format!("{good}.1"),
            &format!(" {good}"),
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
