//! The objects of `sql/`, in the order in which they can be created.

use crate::postgres::quote_identifier;

/// What sort of object it is: how it is looked up, commented and replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Role,
    Schema,
    Type,
    Table,
    Function,
    Publication,
    EventTrigger,
}

impl Kind {
    /// Whether its SQL may run again over an older form. Everything else holds data or has dependants.
    pub(super) fn is_replaceable(self) -> bool {
        matches!(self, Self::Function | Self::EventTrigger)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Schema => "schema",
            Self::Type => "type",
            Self::Table => "table",
            Self::Function => "function",
            Self::Publication => "publication",
            Self::EventTrigger => "event trigger",
        }
    }
}

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) kind: Kind,
    /// Its name; qualified, and for a function with the types of its arguments as Postgres prints them.
    pub(super) name: String,
    pub(super) sql: String,
    /// Rowcast cannot serve without it.
    pub(super) essential: bool,
    /// Where it is somebody else's, nothing of its group is added.
    pub(super) decides_group: bool,
}

impl Object {
    fn new(kind: Kind, name: &str, sql: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            sql: sql.to_owned(),
            essential: false,
            decides_group: false,
        }
    }

    fn essential(self) -> Self {
        Self {
            essential: true,
            ..self
        }
    }

    fn decides_group(self) -> Self {
        Self {
            decides_group: true,
            ..self
        }
    }

    /// Kind and name, for people.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.kind.word(), self.name)
    }

    /// What `COMMENT ON` calls it. Roles are not marked: they are never replaced.
    pub(super) fn comment_target(&self) -> Option<String> {
        let name = match self.kind {
            Kind::Role => return None,
            Kind::Publication => quote_identifier(&self.name),
            _ => self.name.clone(),
        };
        Some(format!("{} {name}", self.kind.word().to_uppercase()))
    }
}

/// Objects that are installed in one transaction.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) objects: Vec<Object>,
    /// Why nothing is added when an object that decides is not ours.
    pub(super) not_ours: &'static str,
    /// Only where roles were asked for.
    pub(super) roles: bool,
    /// Runs after the objects, every time.
    pub(super) afterwards: Option<&'static str>,
}

/// An object whose file is `sql/<path>.sql`.
macro_rules! object {
    ($kind:ident, $name:literal, $path:literal) => {
        Object::new(
            Kind::$kind,
            $name,
            include_str!(concat!("../../../sql/", $path, ".sql")),
        )
    };
}

/// Adds the columns and first partitions that `realtime.messages` lacks, where the table is ours.
const MESSAGES_AFTERWARDS: &str = concat!(
    include_str!("../../../sql/realtime/messages_columns.sql"),
    include_str!("../../../sql/realtime/messages_partition.sql"),
    include_str!("../../../sql/realtime/messages_partitions.sql"),
    "DROP FUNCTION pg_temp.rowcast_add_messages_partition(date);",
);

/// Makes `pg_temp.rowcast_add_messages_partition(date)`, which adds the partition of one day to `realtime.messages`.
pub const ADD_MESSAGES_PARTITION: &str = include_str!("../../../sql/realtime/messages_partition.sql");

/// An event trigger whose file is `sql/rowcast/<path>.sql`. An event trigger runs its function with the rights of
/// whoever changes the catalog, a superuser among them, and a comment that says `rowcast:` proves nothing: so the
/// function is written once more and taken into possession in the same breath.
macro_rules! event_trigger {
    ($name:literal, $path:literal) => {
        Object::new(
            Kind::EventTrigger,
            $name,
            concat!(
                include_str!("../../../sql/rowcast/catalog_changed.sql"),
                "ALTER FUNCTION rowcast.catalog_changed() OWNER TO CURRENT_USER;\n",
                include_str!(concat!("../../../sql/rowcast/", $path, ".sql")),
            ),
        )
    };
}

/// Everything, in order.
pub(super) fn groups(publication: &str) -> Vec<Group> {
    vec![
        roles(),
        rowcast(),
        auth(),
        messages(),
        subscription(),
        publications(publication),
        announcements(),
        Group {
            title: "grants to the API roles",
            afterwards: Some(include_str!("../../../sql/grants.sql")),
            ..group(Vec::new())
        },
    ]
}

fn group(objects: Vec<Object>) -> Group {
    Group {
        title: "",
        objects,
        not_ours: "",
        roles: false,
        afterwards: None,
    }
}

fn roles() -> Group {
    Group {
        roles: true,
        ..group(vec![
            object!(Role, "anon", "roles/anon"),
            object!(Role, "authenticated", "roles/authenticated"),
            object!(Role, "service_role", "roles/service_role"),
        ])
    }
}

fn rowcast() -> Group {
    let objects = vec![
        object!(Schema, "rowcast", "rowcast/schema"),
        object!(Function, "rowcast.is_visible(bigint)", "rowcast/is_visible").essential(),
        object!(
            Function,
            "rowcast.evaluate(text, text, json[], integer[], text[])",
            "rowcast/evaluate"
        )
        .essential(),
        object!(
            Function,
            "rowcast.judge(text[], json, json[], bigint[])",
            "rowcast/judge"
        )
        .essential(),
        object!(
            Function,
            "rowcast.read_relation(text, text, bigint)",
            "rowcast/read_relation"
        )
        .essential(),
        object!(Table, "rowcast.places", "rowcast/places"),
        object!(
            Function,
            "rowcast.read_relations(text[], json, integer, bigint[])",
            "rowcast/read_relations"
        )
        .essential(),
    ];
    Group {
        title: "the table of clients' places",
        afterwards: Some(include_str!("../../../sql/rowcast/places_unlogged.sql")),
        ..group(objects)
    }
}

fn auth() -> Group {
    Group {
        not_ours: "schema auth is not ours; whoever made it brings this",
        ..group(vec![
            object!(Schema, "auth", "auth/schema").decides_group(),
            object!(Function, "auth.jwt()", "auth/jwt"),
            object!(Function, "auth.uid()", "auth/uid"),
            object!(Function, "auth.role()", "auth/role"),
            object!(Function, "auth.email()", "auth/email"),
            object!(Table, "auth.users", "auth/users"),
        ])
    }
}

fn messages() -> Group {
    Group {
        title: "the columns and partitions of realtime.messages",
        afterwards: Some(MESSAGES_AFTERWARDS),
        ..group(vec![
            object!(Schema, "realtime", "realtime/schema"),
            object!(Table, "realtime.messages", "realtime/messages"),
            object!(Function, "realtime.topic()", "realtime/topic"),
            object!(
                Function,
                "realtime.send(jsonb, text, text, boolean)",
                "realtime/send"
            ),
            object!(
                Function,
                "realtime.send_binary(bytea, text, text, boolean)",
                "realtime/send_binary"
            ),
            object!(
                Function,
                "realtime.broadcast_changes(text, text, text, text, text, record, record, text)",
                "realtime/broadcast_changes"
            ),
        ])
    }
}

fn subscription() -> Group {
    Group {
        not_ours: "the objects around realtime.subscription are not ours; whoever made them brings this",
        ..group(vec![
            object!(Type, "realtime.action", "realtime/action").decides_group(),
            object!(Type, "realtime.equality_op", "realtime/equality_op").decides_group(),
            object!(
                Type,
                "realtime.user_defined_filter",
                "realtime/user_defined_filter"
            )
            .decides_group(),
            object!(Type, "realtime.wal_column", "realtime/wal_column").decides_group(),
            object!(Type, "realtime.wal_rls", "realtime/wal_rls").decides_group(),
            object!(Function, "realtime.to_regrole(text)", "realtime/to_regrole"),
            object!(Function, "realtime.cast(text, regtype)", "realtime/cast"),
            object!(
                Function,
                "realtime.check_equality_op(realtime.equality_op, regtype, text, text, boolean)",
                "realtime/check_equality_op_negate"
            ),
            object!(
                Function,
                "realtime.check_equality_op(realtime.equality_op, regtype, text, text)",
                "realtime/check_equality_op"
            ),
            object!(
                Function,
                "realtime.is_visible_through_filters(realtime.wal_column[], realtime.user_defined_filter[])",
                "realtime/is_visible_through_filters"
            ),
            object!(
                Function,
                "realtime.wal2json_escape_identifier(text)",
                "realtime/wal2json_escape_identifier"
            ),
            object!(
                Function,
                "realtime.quote_wal2json(regclass)",
                "realtime/quote_wal2json"
            ),
            object!(
                Function,
                "realtime.subscription_check_filters()",
                "realtime/subscription_check_filters"
            ),
            object!(Table, "realtime.subscription", "realtime/subscription").decides_group(),
        ])
    }
}

fn publications(name: &str) -> Group {
    let sql = format!("CREATE PUBLICATION {}", quote_identifier(name));
    group(vec![Object::new(Kind::Publication, name, &sql).essential()])
}

fn announcements() -> Group {
    Group {
        not_ours: "rowcast.catalog_changed() is not ours, and nothing of ours runs what others wrote",
        ..group(vec![
            object!(Function, "rowcast.catalog_changed()", "rowcast/catalog_changed").decides_group(),
            event_trigger!("rowcast_catalog_changed", "event_trigger_changed"),
            event_trigger!("rowcast_catalog_dropped", "event_trigger_dropped"),
        ])
    }
}
