//! What is written, in pieces of a size that is worth a write.

use bytes::{Bytes, BytesMut};

use crate::hub::Frame;

/// Frames up to this size are copied, so that many go out in one piece; larger ones leave as they are. In bytes.
const COPIED: usize = 4 * 1_024;

/// About how large a piece gets. The HTTP server keeps a few of them while the client does not read.
const PIECE: usize = 16 * 1_024;

/// Bytes on their way out: small frames copied together, large ones as they are.
#[derive(Default)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Pieces {
    pub(super) fn text(&mut self, text: &str) {
        self.open.extend_from_slice(text.as_bytes());
        if self.open.len() >= PIECE {
            self.cut();
        }
    }

    pub(super) fn frame(&mut self, frame: &Frame) {
        let Frame::Text(text) = frame else { return };
        if text.len() <= COPIED {
            return self.text(text);
        }
        self.cut();
        self.done.push(text.clone().into());
    }

    fn cut(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open).freeze());
        }
    }

    pub(super) fn finish(&mut self) -> Vec<Bytes> {
        self.cut();
        std::mem::take(&mut self.done)
    }
}
