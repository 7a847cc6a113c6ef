use crate::hub::Frame;
use crate::protocol::Version;

/// The frames of one message, each encoded when the first member needs it.
pub(super) struct Frames<F> {
    encode: F,
    v1: Encoding,
    v2: Encoding,
    v2_text: Encoding,
    events: Encoding,
}

enum Encoding {
    Unknown,
    /// `None` where this serialiser has no frame for it.
    Known(Option<Frame>),
}

impl<F: FnMut(Version) -> Option<Frame>> Frames<F> {
    pub(super) fn new(encode: F) -> Self {
        Self {
            encode,
            v1: Encoding::Unknown,
            v2: Encoding::Unknown,
            v2_text: Encoding::Unknown,
            events: Encoding::Unknown,
        }
    }

    pub(super) fn get(&mut self, version: Version) -> Option<&Frame> {
        let slot = match version {
            Version::V1 => &mut self.v1,
            Version::V2 => &mut self.v2,
            Version::V2Text => &mut self.v2_text,
            Version::Events => &mut self.events,
        };
        if let Encoding::Unknown = slot {
            *slot = Encoding::Known((self.encode)(version));
        }
        match slot {
            Encoding::Known(frame) => frame.as_ref(),
            Encoding::Unknown => None,
        }
    }
}
