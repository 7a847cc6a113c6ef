use super::MemberId;
use super::meta::Meta;
use crate::protocol::push_json_string;

/// One meta of one key.
pub(super) struct Line<'a> {
    key: &'a str,
    /// Orders the metas of a key: who came first stands first.
    who: MemberId,
    meta: &'a Meta,
    previous: Option<&'a Meta>,
}

impl<'a> Line<'a> {
    pub(super) fn new(key: &'a str, who: MemberId, meta: &'a Meta, previous: Option<&'a Meta>) -> Self {
        Self {
            key,
            who,
            meta,
            previous,
        }
    }
}

/// `{"joins":…,"leaves":…}`; both are always there.
pub(super) fn diff(joins: Vec<Line<'_>>, leaves: Vec<Line<'_>>) -> String {
    let mut out = String::from("{\"joins\":");
    by_key(&mut out, joins);
    out.push_str(",\"leaves\":");
    by_key(&mut out, leaves);
    out.push('}');
    out
}

/// `{"<key>":{"metas":[…]},…}`.
pub(super) fn state(lines: Vec<Line<'_>>) -> String {
    let mut out = String::new();
    by_key(&mut out, lines);
    out
}

fn by_key(out: &mut String, mut lines: Vec<Line<'_>>) {
    lines.sort_unstable_by_key(|line| (line.key, line.who));
    out.push('{');
    for (nth, metas) in lines.chunk_by(|a, b| a.key == b.key).enumerate() {
        let Some(first) = metas.first() else { continue };
        if nth > 0 {
            out.push(',');
        }
        push_json_string(out, first.key);
        out.push_str(":{\"metas\":[");
        for (nth, line) in metas.iter().enumerate() {
            if nth > 0 {
                out.push(',');
            }
            line.meta.write(out, line.previous);
        }
        out.push_str("]}");
    }
    out.push('}');
}
