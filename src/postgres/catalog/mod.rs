//! What Rowcast knows of the database: published tables, their columns, keys, policies and types, and what a role may
//! read of them. Plain values here; `load` reads them.

mod access;
mod body;
mod callable;
mod channels;
mod files;
mod functions;
mod load;
mod locale;
mod path;
mod policies;
mod print;
mod settings;
mod tables;
mod tokens;
mod types;
mod whole_row;

#[cfg(test)]
pub(crate) mod testing;

pub use access::role_access;
pub use files::{FileFinding, FilePolicy, FileProblem, Using, normalise_using};
pub use load::{Loaded, Loader, Publication, load, publication};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::change::TableName;

/// The published tables and every type their columns reach, as of one reading. Immutable; a new reading is a new value.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Published tables by name: partitions, and the partitioned tables above them that are published as well.
    pub tables: HashMap<TableName, Arc<Table>>,
    /// Types by oid: those of all columns, and through arrays, domains and composites what they are made of.
    pub types: Arc<Types>,
    /// Other relations that policies reach (through subqueries, functions, and those relations' own policies), by oid.
    pub others: HashMap<u32, Arc<Table>>,
    /// Functions that policies reach, other than those of `pg_catalog`, by oid.
    pub functions: HashMap<u32, Arc<Function>>,
    /// How the names in the bodies of [`Catalog::functions`] were looked up, by the function's oid. Whoever looks
    /// otherwise may not be answered by the body; [`RoleAccess::functions`] knows who.
    pub lookups: HashMap<u32, Lookup>,
    /// How the database's default collation compares.
    pub collation: DefaultCollation,
    /// The table that private channels are authorised by, if it is there.
    pub channels: Option<Channels>,
}

/// `realtime.messages`, twice: its policies for SELECT and those for INSERT are about the same columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channels {
    /// With the policies for SELECT (USING).
    pub read: Arc<Table>,
    /// With the policies for INSERT in [`Table::policies`]: WITH CHECK as [`Policy::using`], or USING of one that is FOR ALL
    /// and has no other.
    pub write: Arc<Table>,
}

/// The locale of the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DefaultCollation {
    /// `C` or `POSIX`: text orders by its bytes, and only ASCII letters have cases.
    C,
    /// A locale in which ASCII letters have their usual cases.
    #[default]
    Plain,
    /// One in which they have not (Turkish, Azeri).
    Turkic,
    /// The database is not in UTF-8: nothing about text can be said here.
    Foreign,
}

/// What a body's names depend on: those who may not enter one of these schemas find something else, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The `search_path` by names; `$user` is the schema named as the role.
    pub path: Vec<Arc<str>>,
    /// Schemas of what the body names.
    pub schemas: Vec<Arc<str>>,
}

/// A function that policies call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// `pg_proc.oid`.
    pub oid: u32,
    /// Schema.
    pub schema: Arc<str>,
    /// Name without the schema.
    pub name: Arc<str>,
    /// Types of its arguments.
    pub arguments: Vec<u32>,
    /// Type of its result.
    pub returns: u32,
    /// It returns a set of rows.
    pub returns_set: bool,
    /// `pg_proc.provolatile`.
    pub volatility: Volatility,
    /// NULL if any argument is.
    pub strict: bool,
    /// Runs with its owner's rights.
    pub security_definer: bool,
    /// Its owner.
    pub owner: Arc<str>,
    /// Some cast is done by it: a call that is printed as a cast like any other, without its name.
    pub is_cast: bool,
    /// What it does, if that is one SELECT in SQL.
    pub body: Option<Body>,
}

/// `pg_proc.provolatile`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    /// `i`
    Immutable,
    /// `s`
    Stable,
    /// `v`
    Volatile,
}

/// What a function in SQL does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Its SELECT of one column as Postgres prints it under an empty `search_path`; each argument is a column of
    /// [`Body::ALIAS`]. A function that does not return a set takes the first row, and is NULL where there is none.
    pub query: String,
    /// The columns that stand for the arguments, in order.
    pub parameters: Vec<Arc<str>>,
    /// Relations that it reads itself.
    pub relations: Vec<u32>,
    /// Functions that it calls itself, other than those of `pg_catalog`.
    pub functions: Vec<u32>,
}

/// Types by oid.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Types(pub HashMap<u32, Type>);

/// One published table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema and name.
    pub name: TableName,
    /// Live columns in attribute order (dropped ones and system columns are not here).
    pub columns: Vec<Column>,
    /// Primary key: indexes into `columns`, in attribute order; empty if the table has none.
    pub primary_key: Vec<usize>,
    /// What UPDATE and DELETE leave of the old row in the WAL; of a partitioned table what all of its partitions leave.
    pub replica_identity: ReplicaIdentity,
    /// Row-level security is enabled.
    pub rls: bool,
    /// Row-level security applies to the owner too (`FORCE`).
    pub force_rls: bool,
    /// Which actions the publication publishes.
    pub published: Published,
    /// SELECT and ALL policies, ordered by name (of [`Channels::write`] those for INSERT and ALL).
    pub policies: Vec<Policy>,
    /// Policies from files, in their order. They apply where row-level security is off, too.
    pub file_policies: Vec<Policy>,
    /// What it is.
    pub kind: RelationKind,
    /// The relations that hold its rows, by the names they have in the stream: itself, and what inherits from it (of a
    /// partitioned table only the partitions).
    pub stored_in: Vec<TableName>,
    /// It is a partitioned table, and holds no row itself.
    pub partitioned: bool,
    /// The partitioned tables that it is a partition of, by oid, the nearest first.
    pub ancestors: Vec<u32>,
}

/// `pg_class.relkind`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary or partitioned table.
    Table,
    /// A view, a foreign table, or anything else whose changes do not all come down the stream: unlogged and temporary
    /// tables too, and tables of which a part has no replica identity.
    Other,
}

/// Actions of the publication that a table is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// INSERT is published.
    pub insert: bool,
    /// UPDATE is published.
    pub update: bool,
    /// DELETE is published.
    pub delete: bool,
    /// TRUNCATE is published.
    pub truncate: bool,
}

/// `pg_class.relreplident`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// A chosen unique index.
    Index,
    /// The whole old row.
    Full,
    /// Nothing.
    Nothing,
}

/// One column of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// `pg_attribute.attnum`, from 1.
    pub attnum: i16,
    /// Name, unquoted.
    pub name: Arc<str>,
    /// `pg_attribute.atttypid`.
    pub type_oid: u32,
    /// `pg_type.typname` of that type: `int4`, `_text`, a domain's own name.
    pub type_name: Arc<str>,
    /// Its collation, qualified and quoted as SQL needs it, where that is not the one of its type.
    pub collation: Option<Arc<str>>,
    /// The column's collation compares equal only what is equal byte for byte (true for types without a collation).
    pub deterministic: bool,
    /// The column cannot be NULL.
    pub not_null: bool,
    /// Where its value comes from, if it is generated.
    pub generated: Option<Generated>,
}

/// A generated column (manual, "Generated Columns").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Generated {
    /// Kept with the row.
    Stored,
    /// Computed when it is read, by this expression (`pg_get_expr`); what comes down the stream does not have it.
    Virtual(Arc<str>),
}

/// One row-level policy that applies to SELECT (declared FOR SELECT or FOR ALL), or to INSERT, see [`Channels::write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `pg_policy.polname`.
    pub name: String,
    /// PERMISSIVE (true) or RESTRICTIVE (false).
    pub permissive: bool,
    /// Role oids the policy is for; 0 is PUBLIC.
    pub roles: Vec<u32>,
    /// `pg_get_expr(polqual, polrelid)` read under an empty `search_path`, so that every name is qualified.
    /// `None` is a policy without USING: it neither allows nor restricts reading.
    pub using: Option<String>,
    /// Columns of its own table that the expression reads, as attribute numbers (from `pg_depend`).
    pub columns: Vec<i16>,
    /// The expression reads the whole row (`t.*`) or a system column: only a complete row can be judged.
    pub whole_row: bool,
    /// Relations that its subqueries read.
    pub relations: Vec<u32>,
    /// Functions that it calls, other than those of `pg_catalog`.
    pub functions: Vec<u32>,
}

/// One type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// `pg_type.oid`.
    pub oid: u32,
    /// `pg_type.typname`.
    pub name: Arc<str>,
    /// The name qualified and quoted as SQL needs it, for example `pg_catalog.int4` or `public."Mood"`.
    pub sql: Arc<str>,
    /// What it is made of.
    pub kind: TypeKind,
    /// There is a cast function from this type to `json`, which `to_jsonb` would use (for example hstore).
    pub json_cast: bool,
}

/// `pg_type.typtype`, with what each kind is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// A base type that is not an array.
    Base,
    /// A true array.
    Array {
        /// Element type.
        element: u32,
        /// `typdelim` of the element: `,` for all but `box`.
        delimiter: char,
    },
    /// A domain over another type.
    Domain {
        /// `typbasetype` (may be a domain again).
        base: u32,
    },
    /// An enum.
    Enum {
        /// Its labels in sort order.
        labels: Vec<Arc<str>>,
    },
    /// A composite type: live attributes in order.
    Composite {
        /// Name and type oid of each.
        fields: Vec<(Arc<str>, u32)>,
    },
    /// A range or multirange.
    Range,
}

/// What one role may read, for the tables of one [`Catalog`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleAccess {
    /// By table oid.
    pub tables: HashMap<u32, Access>,
    /// Functions of [`Catalog::functions`] that the role may call and whose names it finds as their bodies say, as
    /// do all functions they call in turn (those below a `SECURITY DEFINER` one as its owner). Any other has to be
    /// called by Postgres, which may refuse.
    pub functions: HashSet<u32>,
    /// It is superuser or BYPASSRLS, so that neither row-level security nor policy files apply to it.
    pub above_rls: bool,
    /// What it may do with the table of [`Catalog::channels`].
    pub channels: Option<ChannelAccess>,
    /// Something of the catalog has been dropped since it was read. Nobody sees anything of it here, although there may be
    /// another one of its name by now.
    pub outdated: bool,
}

/// What one role may do with the table that private channels are authorised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelAccess {
    /// SELECT, on [`Channels::read`]. No row unless [`Channels::SELECTED`] are granted.
    pub read: Access,
    /// INSERT, on [`Channels::write`]: its `columns` are the INSERT privilege. No row unless [`Channels::INSERTED`] are
    /// granted.
    pub write: Access,
}

/// What one role may read of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// SELECT privilege (or INSERT, see [`ChannelAccess::write`]) per entry of `Table::columns`: all false where the role
    /// lacks USAGE on the schema.
    pub columns: Vec<bool>,
    /// How rows are restricted.
    pub rows: RowAccess,
    /// How policy files restrict them further, as indexes into `Table::file_policies`.
    pub files: RowAccess,
}

/// How row-level security restricts a role on a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowAccess {
    /// Not at all: security is off, or the role is superuser, BYPASSRLS, or owner without FORCE.
    Unrestricted,
    /// By these policies, as indexes into `Table::policies`. No permissive one means no row.
    Policies {
        /// At least one must be true; in the order in which Postgres asks them.
        permissive: Vec<usize>,
        /// All must be true.
        restrictive: Vec<usize>,
    },
}

/// Policies that restrict a role on a table: at least one permissive and all restrictive ones must be true.
#[derive(Debug, Clone, Copy)]
pub struct Restriction<'a> {
    policies: &'a [Policy],
    permissive: &'a [usize],
    restrictive: &'a [usize],
}

impl<'a> Restriction<'a> {
    fn new(rows: &'a RowAccess, policies: &'a [Policy]) -> Option<Self> {
        match rows {
            RowAccess::Unrestricted => None,
            RowAccess::Policies {
                permissive,
                restrictive,
            } => Some(Self {
                policies,
                permissive,
                restrictive,
            }),
        }
    }

    /// No permissive policy is for the role: it sees no row.
    pub fn denies_all(&self) -> bool {
        self.permissive.is_empty()
    }

    /// The permissive ones. `None` in the place of one that the table does not have, which never happens to an access
    /// and a table that were read together: deny then.
    pub fn permissive(self) -> impl Iterator<Item = Option<&'a Policy>> + use<'a> {
        let policies = self.policies;
        self.permissive.iter().map(move |i| policies.get(*i))
    }

    /// The restrictive ones, as [`Restriction::permissive`].
    pub fn restrictive(self) -> impl Iterator<Item = Option<&'a Policy>> + use<'a> {
        let policies = self.policies;
        self.restrictive.iter().map(move |i| policies.get(*i))
    }
}

impl Channels {
    /// Columns that must be granted for reading.
    pub const SELECTED: &[&str] = &["id"];
    /// Columns that must be granted for writing: what a message says of itself.
    pub const INSERTED: &[&str] = &["topic", "extension", "private"];

    /// Both.
    pub fn sides(&self) -> [&Arc<Table>; 2] {
        [&self.read, &self.write]
    }
}

impl Access {
    /// Whether all these columns are there and granted.
    pub fn grants(&self, table: &Table, columns: &[&str]) -> bool {
        columns.iter().all(|name| {
            let granted = table.column(name).and_then(|i| self.columns.get(i));
            granted == Some(&true)
        })
    }

    /// What restricts the rows of the table: row-level security, then policy files. A row must pass all of it.
    pub fn restrictions<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = Restriction<'a>> {
        [
            Restriction::new(&self.rows, &table.policies),
            Restriction::new(&self.files, &table.file_policies),
        ]
        .into_iter()
        .flatten()
    }
}

impl Body {
    /// What stands for the arguments in [`Body::query`].
    pub const ALIAS: &str = "rowcast arguments";
}

impl Policy {
    /// Whether the expression reads this column of its own table. What `pg_depend` knows includes the WITH CHECK
    /// expression and columns of the table read inside a subquery, so the text has to name the column as well.
    pub fn reads(&self, column: &Column) -> bool {
        let named = || {
            let quoted = column.name.replace('"', "\"\"");
            self.using.as_deref().is_some_and(|using| using.contains(&quoted))
        };
        self.whole_row || (self.columns.contains(&column.attnum) && named())
    }
}

impl Table {
    /// Neither row-level security nor a policy file says who may see its rows.
    pub fn has_no_policies(&self) -> bool {
        !self.rls && self.file_policies.is_empty()
    }

    /// Index of a column by its exact name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}

impl Types {
    /// The type that a domain (over a domain …) finally stands on; the oid itself for anything else.
    pub fn base(&self, oid: u32) -> u32 {
        let mut oid = oid;
        // Domains cannot be circular; the bound only guards against a catalog read in the middle of a change.
        for _ in 0..32 {
            match self.0.get(&oid).map(|t| &t.kind) {
                Some(TypeKind::Domain { base }) => oid = *base,
                _ => break,
            }
        }
        oid
    }
}

#[cfg(test)]
mod tests;
