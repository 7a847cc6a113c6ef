//! What somebody should hold, and what it may have been told.

use std::collections::BTreeMap;

use rowcast::postgres::ConnectSettings;
use serde_json::Value;

use super::Reader;
use super::world::is_short;
use crate::delivery::walker::{Told, What};
use crate::support::{Database, own};

/// Whether all these versions are in teams that somebody has left since: no event says so, and none of the rows comes later.
pub(super) async fn are_out_of_reach(db: &Database, who: &str, others: Vec<(i64, i64)>) -> bool {
    for (id, ver) in others {
        let sql = format!(
            "select exists (select from versions v join stays s on s.team = v.team and s.who = '{who}'
             where v.id = {id} and v.ver = {ver} and s.until >= v.tx)::text"
        );
        if db.text(&sql).await != "true" {
            return false;
        }
    }
    true
}

/// What a SELECT returns: versions by key.
pub(super) async fn read(settings: ConnectSettings, who: String, kinds: Vec<i64>) -> BTreeMap<i64, i64> {
    let sql = format!("select held_by('{who}', array{kinds:?})::text");
    let rows: Value = serde_json::from_str(&own::text(&settings, &sql).await).expect("JSON");
    let rows = rows.as_object().expect("an object").iter();
    rows.map(|(id, ver)| (id.parse().expect("a key"), ver.as_i64().expect("a version")))
        .collect()
}

/// Every version that somebody was told had been committed, fits what it asked for, and could be read by it then or later.
pub(super) async fn judge(db: &Database, reader: &Reader, seed: u64) -> (usize, usize) {
    let told: Vec<(i64, i64)> = {
        let log = reader.walker.log();
        let row = |told: &Told| match &told.what {
            What::Row(data) if data["type"] != "DELETE" && data["type"] != "TRUNCATE" => {
                let number = |name: &str| data["record"][name].as_i64();
                Some((number("id")?, number("ver")?))
            }
            _ => None,
        };
        log.told.iter().filter_map(row).collect()
    };
    let values: Vec<String> = told.iter().map(|(id, ver)| format!("({id}, {ver})")).collect();
    if !values.is_empty() {
        let (who, kinds) = (&reader.who, &reader.kinds);
        let wrong = format!(
            "select coalesce(json_agg(told), '[]')::text from (values {}) told (id, ver) where not exists (
                select from versions v where v.ver = told.ver and v.id = told.id and v.kind = any (array{kinds:?})
                and (v.owner = '{who}' or exists (
                    select from stays s where s.team = v.team and s.who = '{who}' and coalesce(s.until > v.tx, true))))",
            values.join(", ")
        );
        assert_eq!(db.text(&wrong).await, "[]", "ROWCAST_SEED={seed}: told to {who}");
    }
    let log = reader.walker.log();
    let resync = |told: &&Told| matches!(&told.what, What::Outcome(text) if text.starts_with("resync"));
    let resyncs: Vec<_> = log.told.iter().filter(resync).collect();
    for told in &resyncs {
        // Only a server that has just begun does not know a session, or what clients said before; rows have no other reason.
        let What::Outcome(text) = &told.what else { continue };
        let known = [
            if is_short(seed) {
                "older than the replay window"
            } else {
                "does not know the session"
            },
            "does not know the session",
            "the server was replaced",
            // Joined before it had begun to read, and cut off at once.
            "where the session was in this channel is not known",
            // Cut off before its rows were live.
            "the cursor says nothing of this channel",
        ];
        assert!(
            known.iter().any(|reason| text.contains(reason)),
            "ROWCAST_SEED={seed}: {text}"
        );
    }
    (told.len(), resyncs.len())
}
