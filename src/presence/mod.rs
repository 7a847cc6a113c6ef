//! Who is in a room: keys, their metas, and what changed since it was last told.
//!
//! Pure: no member, no socket, no clock. The shapes are those of Phoenix: `{"<key>":{"metas":[{"phx_ref":…,…}]}}`.
