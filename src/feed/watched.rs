//! The tables whose changes matter although nobody may be subscribed to them: policies read them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::change::TableName;
use crate::postgres::catalog::{Catalog, Channels, RelationKind, Table};

/// Tables that policies read and that can be followed, by the names their rows have in the stream. Made from the
/// catalog alone, so that subscriptions never change what is streamed.
#[derive(Debug, Default)]
pub(super) struct Watched {
    names: HashMap<TableName, Vec<Arc<Table>>>,
    oids: HashSet<u32>,
}

impl Watched {
    /// Those of the catalog, but for what the stream does not carry.
    pub(super) fn new(catalog: &Catalog, missing: &BTreeSet<TableName>) -> Self {
        let mut watched = Self::default();
        let read = read(catalog);
        for table in catalog.tables.values().chain(catalog.others.values()) {
            if !read.contains(&table.oid) || table.kind != RelationKind::Table {
                continue;
            }
            if stored_in(table).iter().any(|name| missing.contains(name)) {
                continue;
            }
            watched.oids.insert(table.oid);
            for name in stored_in(table).iter().chain(above(table, catalog)) {
                watched
                    .names
                    .entry(name.clone())
                    .or_default()
                    .push(Arc::clone(table));
            }
        }
        watched
    }

    /// The tables that a row of this name in the stream belongs to: its own, and those above it.
    pub(super) fn tables(&self, name: &TableName) -> &[Arc<Table>] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &TableName> {
        self.names.keys()
    }

    pub(super) fn oids(&self) -> &HashSet<u32> {
        &self.oids
    }
}

/// Every table that some policy reads, itself or through a function; those for channels among them.
fn read(catalog: &Catalog) -> HashSet<u32> {
    let channels = catalog.channels.iter().flat_map(Channels::sides);
    let tables = catalog
        .tables
        .values()
        .chain(catalog.others.values())
        .chain(channels);
    let policies = tables.flat_map(|table| table.policies.iter().chain(&table.file_policies));
    let bodies = catalog.functions.values().filter_map(|f| f.body.as_ref());
    policies
        .flat_map(|policy| &policy.relations)
        .chain(bodies.flat_map(|body| &body.relations))
        .chain(catalog.others.keys())
        .copied()
        .collect()
}

fn stored_in(table: &Table) -> &[TableName] {
    match table.stored_in.as_slice() {
        [] => std::slice::from_ref(&table.name),
        names => names,
    }
}

/// The names of partitioned tables under which the plugin may bring a table's rows: a publication by the root does not say
/// which partition they are in.
fn above<'a>(table: &'a Table, catalog: &'a Catalog) -> impl Iterator<Item = &'a TableName> {
    let itself = table.partitioned.then_some(&table.name);
    let tables = catalog.tables.values().chain(catalog.others.values());
    itself.into_iter().chain(
        tables
            .filter(|root| table.ancestors.contains(&root.oid))
            .map(|root| &root.name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::catalog::Policy;
    use crate::postgres::catalog::testing::table as fixture;

    fn table(oid: u32, name: &str, stored_in: &[&str]) -> Table {
        Table {
            primary_key: vec![0],
            stored_in: stored_in
                .iter()
                .map(|name| TableName::new("public", name))
                .collect(),
            ..fixture(oid, name)
        }
    }

    fn catalog(published: Vec<Table>, others: Vec<Table>) -> Catalog {
        let named = |table: Table| (table.name.clone(), Arc::new(table));
        let numbered = |table: Table| (table.oid, Arc::new(table));
        Catalog {
            tables: published.into_iter().map(named).collect(),
            others: others.into_iter().map(numbered).collect(),
            ..Catalog::default()
        }
    }

    fn reading(table: Table, relations: &[u32]) -> Table {
        let policy = Policy {
            name: "p".to_owned(),
            permissive: true,
            roles: vec![0],
            using: None,
            columns: Vec::new(),
            whole_row: false,
            relations: relations.to_vec(),
            functions: Vec::new(),
        };
        Table {
            policies: vec![policy],
            ..table
        }
    }

    fn sorted(watched: &Watched) -> Vec<u32> {
        let mut oids: Vec<u32> = watched.oids().iter().copied().collect();
        oids.sort_unstable();
        oids
    }

    #[test]
    fn published_tables_are_watched_if_policies_read_them() {
        let published = vec![
            reading(table(1, "a", &["a"]), &[2]),
            table(2, "b", &["b"]),
            table(3, "c", &["c"]),
        ];
        let watched = Watched::new(&catalog(published, vec![table(4, "d", &["d"])]), &BTreeSet::new());
        assert_eq!(sorted(&watched), [2, 4]);
    }

    #[test]
    fn what_policies_on_channels_read_is_watched() {
        let side = |relation| Arc::new(reading(table(9, "messages", &[]), &[relation]));
        let channels = Channels {
            read: side(2),
            write: side(3),
        };
        let published = ["a", "b", "c", "d"].into_iter().zip(1..);
        let published = published.map(|(name, oid)| table(oid, name, &[name])).collect();
        let watched = Watched::new(
            &Catalog {
                channels: Some(channels),
                ..catalog(published, Vec::new())
            },
            &BTreeSet::new(),
        );
        assert_eq!(sorted(&watched), [2, 3]);
    }

    #[test]
    fn a_partitions_rows_are_its_own_and_its_roots() {
        let root = Table {
            partitioned: true,
            ..table(5, "root", &["north", "south"])
        };
        let part = |oid, name| Table {
            ancestors: vec![5],
            ..table(oid, name, &[name])
        };
        let watched = Watched::new(
            &catalog(Vec::new(), vec![root, part(6, "north"), part(7, "south")]),
            &BTreeSet::new(),
        );
        let mut of_north: Vec<u32> = watched
            .tables(&TableName::new("public", "north"))
            .iter()
            .map(|table| table.oid)
            .collect();
        of_north.sort_unstable();
        assert_eq!(of_north, [5, 6]);
        let mut of_root: Vec<u32> = watched
            .tables(&TableName::new("public", "root"))
            .iter()
            .map(|table| table.oid)
            .collect();
        of_root.sort_unstable();
        assert_eq!(of_root, [5, 6, 7], "a row of any of them");
    }

    #[test]
    fn tables_whose_changes_do_not_all_come_are_not_watched() {
        let view = Table {
            kind: RelationKind::Other,
            ..table(8, "e", &["e"])
        };
        let watched = Watched::new(&catalog(Vec::new(), vec![view]), &BTreeSet::new());
        assert!(watched.oids().is_empty());
        assert_eq!(watched.names().count(), 0);
    }

    #[test]
    fn what_the_stream_does_not_carry_is_not_watched() {
        let root = table(5, "root", &["north", "south"]);
        let (north, other) = (table(6, "north", &["north"]), table(7, "other", &["other"]));
        let missing = BTreeSet::from([TableName::new("public", "north")]);
        let watched = Watched::new(&catalog(Vec::new(), vec![root, north, other]), &missing);
        assert_eq!(sorted(&watched), [7]);
    }
}
