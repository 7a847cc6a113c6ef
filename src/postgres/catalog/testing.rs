//! Tables for the tests of those who read the catalog.

use super::{Published, RelationKind, ReplicaIdentity, Table};
use crate::change::TableName;

/// A published table in `public` without columns or policies, for tests to fill in what they are about.
pub(crate) fn table(oid: u32, name: &str) -> Table {
    Table {
        oid,
        name: TableName::new("public", name),
        columns: Vec::new(),
        primary_key: Vec::new(),
        replica_identity: ReplicaIdentity::Default,
        rls: false,
        force_rls: false,
        published: Published {
            insert: true,
            update: true,
            delete: true,
            truncate: true,
        },
        policies: Vec::new(),
        file_policies: Vec::new(),
        kind: RelationKind::Table,
        stored_in: Vec::new(),
        partitioned: false,
        ancestors: Vec::new(),
    }
}
