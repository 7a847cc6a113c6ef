//! Transactions with a row that the plugin cannot print: Postgres holds at most 1 GiB of text in one piece, and the text of a
//! row may be longer than the row. The connection ends at that row each time, so without more nothing would ever come
//! behind it.

use super::failure::Failure;
use super::stream::Stream;
use crate::change::Lsn;

/// What was met last.
#[derive(Debug, Default)]
pub(super) struct Unprintable {
    /// The end of the transaction that could not be read.
    end: Option<Lsn>,
}

impl Unprintable {
    /// Whether this is the second time in a row.
    fn again(&mut self, end: Lsn) -> bool {
        if self.end.replace(end) == Some(end) {
            self.end = None;
            return true;
        }
        false
    }
}

impl Stream {
    /// Leaves a transaction out at which the plugin fails for the second time; where it ends.
    pub(super) fn leave_out(&mut self, failure: &Failure) -> Option<Lsn> {
        let end = self
            .intake
            .progress
            .transaction()
            .filter(|_| exceeds_memory(failure))?;
        if !self.unprintable.again(end) {
            return None;
        }
        self.intake.progress.leave_out(end);
        Some(end)
    }
}

/// A string buffer would be larger than any may be (54000), or a piece of memory (`palloc` has no code of its own for that).
/// Not memory that is lacking at the moment.
fn exceeds_memory(failure: &Failure) -> bool {
    let Failure::Server(error) = failure else {
        return false;
    };
    match error.code.as_str() {
        "54000" => true,
        "XX000" => error.message.starts_with("invalid memory alloc request size"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::failure::ServerError;

    #[test]
    fn only_what_would_fail_again_is_left_out() {
        let server = |code: &str, message: &str| {
            exceeds_memory(&Failure::Server(ServerError {
                code: code.to_owned(),
                message: message.to_owned(),
            }))
        };
        assert!(server("54000", "out of memory"));
        assert!(server("XX000", "invalid memory alloc request size 1073741824"));
        assert!(!server("53200", "out of memory"));
        assert!(!server("XX000", "could not open file"));
        assert!(!exceeds_memory(&Failure::HeldUp));
    }

    #[test]
    fn it_takes_two_times_in_a_row() {
        let mut unprintable = Unprintable::default();
        assert!(!unprintable.again(Lsn(1)));
        assert!(!unprintable.again(Lsn(2)));
        assert!(unprintable.again(Lsn(2)));
        assert!(!unprintable.again(Lsn(2)));
    }
}
