//! `realtime.messages`, as it is found in databases.

use super::{column_names, read};
use crate::change::TableName;
use crate::postgres::Connection;
use crate::postgres::catalog::{
    Catalog, ChannelAccess, Channels, FilePolicy, FileProblem, Loader, Policy, RelationKind, RowAccess, load,
    role_access,
};
use crate::postgres::testing::Cluster;

/// Its columns and partitions as Supabase has them.
const MESSAGES: &str = "
    CREATE SCHEMA realtime;
    CREATE TABLE realtime.messages (
        topic text NOT NULL, extension text NOT NULL, payload jsonb, event text, private boolean DEFAULT false,
        updated_at timestamp NOT NULL DEFAULT now(), inserted_at timestamp NOT NULL DEFAULT now(),
        id uuid NOT NULL DEFAULT gen_random_uuid(), binary_payload bytea, PRIMARY KEY (id, inserted_at)
    ) PARTITION BY RANGE (inserted_at);
    CREATE TABLE realtime.messages_2026_01_01 PARTITION OF realtime.messages
        FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
    CREATE TABLE realtime.messages_2026_01_02 PARTITION OF realtime.messages
        FOR VALUES FROM ('2026-01-02') TO ('2026-01-03');
    ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION realtime.topic() RETURNS text LANGUAGE sql STABLE AS
        $$ SELECT nullif(current_setting('realtime.topic', true), '')::text $$;";

fn channels(catalog: &Catalog) -> &Channels {
    catalog.channels.as_ref().expect("the table")
}

fn texts(policies: &[Policy]) -> Vec<(&str, Option<&str>)> {
    policies
        .iter()
        .map(|policy| (policy.name.as_str(), policy.using.as_deref()))
        .collect()
}

#[tokio::test]
async fn each_side_has_the_policies_of_its_command() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        &format!(
            "{MESSAGES}
             CREATE TABLE members (room text, who text, PRIMARY KEY (room, who));
             CREATE TABLE senders (room text PRIMARY KEY);
             CREATE FUNCTION may_send(r text) RETURNS bool LANGUAGE sql STABLE AS
                 'SELECT EXISTS (SELECT FROM senders WHERE room = r)';
             CREATE POLICY a_read ON realtime.messages FOR SELECT USING (topic = realtime.topic());
             CREATE POLICY b_write ON realtime.messages FOR INSERT TO pg_monitor
                 WITH CHECK (may_send(topic) AND extension = 'broadcast');
             CREATE POLICY c_both ON realtime.messages AS RESTRICTIVE
                 USING (private AND EXISTS (SELECT FROM members m WHERE m.room = messages.topic)) WITH CHECK (event IS NULL);
             CREATE POLICY d_using ON realtime.messages USING (topic IN (SELECT m.topic FROM realtime.messages m));
             CREATE POLICY e_nothing ON realtime.messages FOR INSERT;
             CREATE POLICY f_update ON realtime.messages FOR UPDATE USING (true);
             CREATE PUBLICATION p FOR TABLE members"
        ),
    )
    .await;
    let Channels { read, write } = channels(&catalog);
    assert_eq!((read.oid, &read.name), (write.oid, &write.name));
    assert_eq!(column_names(read), column_names(write));
    assert!(read.rls && read.kind == RelationKind::Table && read.columns.len() == 9);
    assert_eq!(
        read.stored_in,
        ["messages_2026_01_01", "messages_2026_01_02"].map(|name| TableName::new("realtime", name))
    );
    let subquery = "(topic IN ( SELECT m.topic\n   FROM realtime.messages m))";
    assert_eq!(
        texts(&read.policies),
        [
            ("a_read", Some("(topic = realtime.topic())")),
            (
                "c_both",
                Some(
                    "(private AND (EXISTS ( SELECT\n   FROM public.members m\n  WHERE (m.room = messages.topic))))"
                )
            ),
            ("d_using", Some(subquery)),
        ]
    );
    assert_eq!(
        texts(&write.policies),
        [
            (
                "b_write",
                Some("(public.may_send(topic) AND (extension = 'broadcast'::text))")
            ),
            ("c_both", Some("(event IS NULL)")),
            ("d_using", Some(subquery)),
            ("e_nothing", None),
        ]
    );
    assert_eq!(read.policies[2].relations, [read.oid], "itself, by its name");
    let sends = &write.policies[0];
    assert!(sends.permissive && sends.roles.len() == 1 && sends.roles != [0]);
    assert_eq!(sends.columns, [1, 2]);
    let event = write.columns.iter().find(|column| &*column.name == "event");
    assert!(write.policies[1].reads(event.expect("the column")));
    // What only one side reaches is known as well, and what the functions mean.
    let mut functions: Vec<_> = catalog.functions.values().map(|f| &*f.name).collect();
    functions.sort_unstable();
    assert_eq!(functions, ["may_send", "topic"]);
    assert!(catalog.functions.values().all(|function| function.body.is_some()));
    let mut others: Vec<_> = catalog.others.values().map(|t| &*t.name.table).collect();
    others.sort_unstable();
    assert_eq!(others, ["messages", "senders"]);
    let unknown =
        |column: &&crate::postgres::catalog::Column| !catalog.types.0.contains_key(&column.type_oid);
    assert_eq!(read.columns.iter().find(unknown), None);
}

#[tokio::test]
async fn what_is_no_table_authorises_nobody() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(&mut db, "CREATE TABLE messages (topic text, extension text)").await;
    assert_eq!(catalog.channels, None);
    let catalog = read(
        &mut db,
        "CREATE SCHEMA realtime; CREATE VIEW realtime.messages AS SELECT * FROM messages",
    )
    .await;
    assert_eq!(catalog.channels, None);
    let access = role_access(&db, "pg_monitor", &catalog).await.expect("an answer");
    assert_eq!(access.expect("a role").channels, None);
}

async fn may(db: &Connection, catalog: &Catalog, role: &str) -> ChannelAccess {
    let access = role_access(db, role, catalog).await.expect("an answer");
    access.expect("a role").channels.expect("rights")
}

/// Roles belong to the cluster, so each test has names of its own.
#[tokio::test]
async fn rights_are_those_of_the_command() {
    let (_, mut db) = Cluster::shared().database().await;
    // Published too, and a table of its own name then.
    let catalog = read(
        &mut db,
        &format!(
            "{MESSAGES}
             CREATE ROLE cc_all; CREATE ROLE cc_reads; CREATE ROLE cc_writes; CREATE ROLE cc_no_private; CREATE ROLE cc_none;
             CREATE ROLE cc_outside; CREATE ROLE cc_owner; CREATE ROLE cc_above BYPASSRLS; CREATE ROLE cc_above_none BYPASSRLS;
             ALTER TABLE realtime.messages OWNER TO cc_owner;
             GRANT USAGE ON SCHEMA realtime TO cc_all, cc_reads, cc_writes, cc_no_private, cc_none, cc_owner, cc_above;
             GRANT SELECT, INSERT ON realtime.messages TO cc_all, cc_outside, cc_above;
             GRANT SELECT (id, topic) ON realtime.messages TO cc_reads;
             GRANT INSERT (topic, extension, private, payload) ON realtime.messages TO cc_writes;
             GRANT INSERT (topic, extension), SELECT (topic, extension) ON realtime.messages TO cc_no_private;
             CREATE POLICY all_read ON realtime.messages FOR SELECT USING (true);
             CREATE POLICY all_write ON realtime.messages FOR INSERT WITH CHECK (true);
             CREATE POLICY others ON realtime.messages FOR INSERT TO pg_monitor WITH CHECK (true);
             CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root)"
        ),
    )
    .await;
    assert!(
        catalog
            .tables
            .contains_key(&TableName::new("realtime", "messages"))
    );
    let first = RowAccess::Policies {
        permissive: vec![0],
        restrictive: vec![],
    };
    let nothing = RowAccess::Policies {
        permissive: vec![],
        restrictive: vec![],
    };
    for (role, reads, writes) in [
        ("cc_all", &first, &first),
        ("cc_reads", &first, &nothing),
        ("cc_writes", &nothing, &first),
        ("cc_no_private", &nothing, &nothing),
        ("cc_none", &nothing, &nothing),
        ("cc_outside", &nothing, &nothing),
        ("cc_owner", &RowAccess::Unrestricted, &RowAccess::Unrestricted),
        ("cc_above", &RowAccess::Unrestricted, &RowAccess::Unrestricted),
        // Above row security is not above grants.
        ("cc_above_none", &nothing, &nothing),
    ] {
        let access = may(&db, &catalog, role).await;
        assert_eq!((&access.read.rows, &access.write.rows), (reads, writes), "{role}");
    }
    let writes = may(&db, &catalog, "cc_writes").await.write;
    let granted: Vec<&str> = column_names(&channels(&catalog).write)
        .into_iter()
        .zip(&writes.columns)
        .filter_map(|(name, granted)| granted.then_some(name))
        .collect();
    assert_eq!(granted, ["topic", "extension", "payload", "private"]);
}

#[tokio::test]
async fn without_row_security_everybody_or_nobody() {
    let (_, mut db) = Cluster::shared().database().await;
    let catalog = read(
        &mut db,
        &format!(
            "{MESSAGES}
             ALTER TABLE realtime.messages DISABLE ROW LEVEL SECURITY;
             CREATE ROLE cw_some; CREATE ROLE cw_above BYPASSRLS;
             GRANT USAGE ON SCHEMA realtime TO cw_some, cw_above;
             GRANT SELECT, INSERT ON realtime.messages TO cw_some, cw_above"
        ),
    )
    .await;
    for (role, required) in [("cw_some", false), ("cw_above", true)] {
        let mut access = role_access(&db, role, &catalog)
            .await
            .expect("an answer")
            .expect("a role");
        let open = |access: &ChannelAccess| {
            [&access.read, &access.write].map(|side| side.rows == RowAccess::Unrestricted)
        };
        assert_eq!(open(access.channels.as_ref().expect("rights")), [true; 2]);
        access.require_policies(&catalog);
        assert_eq!(
            open(access.channels.as_ref().expect("rights")),
            [required; 2],
            "{role}"
        );
    }
}

/// A file narrows what is read, published or not. It says nothing about writing.
#[tokio::test]
async fn policies_from_files_narrow_reading() {
    let (_, mut db) = Cluster::shared().database().await;
    read(
        &mut db,
        &format!("{MESSAGES} CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t"),
    )
    .await;
    let file = |table: &str, using: &str| FilePolicy {
        table: TableName::new("realtime", table),
        name: "narrow".into(),
        permissive: true,
        roles: vec!["public".into()],
        using: using.into(),
    };
    let mut loader = Loader::default();
    loader.set_files(vec![
        file("messages", "realtime.topic() like 'room:%'"),
        file("messages", "no_such_column"),
        file("message", "true"),
    ]);
    for publish in [
        "",
        "ALTER PUBLICATION p ADD TABLE realtime.messages; ALTER PUBLICATION p SET (publish_via_partition_root)",
    ] {
        db.batch_execute(publish).await.expect("a publication");
        let loaded = loader.load(&mut db, "p").await.expect("a catalog");
        let Channels { read, write } = channels(&loaded.catalog);
        let found: Vec<_> = read
            .file_policies
            .iter()
            .map(|policy| policy.using.as_deref())
            .collect();
        assert_eq!(
            found,
            [Some("(realtime.topic() ~~ 'room:%'::text)"), Some("false")]
        );
        assert!(write.file_policies.is_empty());
        let published = loaded.catalog.tables.get(&read.name);
        assert_eq!(published.is_some(), !publish.is_empty());
        assert!(published.is_none_or(|table| table.file_policies == read.file_policies));
        // Each is named once, wherever it is put.
        let [refused, waits] = loaded.files.as_slice() else {
            panic!("{:?}", loaded.files);
        };
        assert!(refused.policy == 1 && matches!(refused.problem, FileProblem::Refused { .. }));
        assert_eq!((waits.policy, &waits.problem), (2, &FileProblem::NotPublished));
    }
}

/// A new partition is a change of the catalog, and so is a policy.
#[tokio::test]
async fn partitions_and_policies_that_come_are_a_change() {
    let (_, mut db) = Cluster::shared().database().await;
    let before = read(&mut db, MESSAGES).await;
    assert_eq!(load(&mut db, "p").await.expect("a catalog"), before);
    for change in [
        "CREATE TABLE realtime.messages_2026_01_03 PARTITION OF realtime.messages
             FOR VALUES FROM ('2026-01-03') TO ('2026-01-04')",
        "CREATE POLICY p ON realtime.messages FOR INSERT WITH CHECK (true)",
        "ALTER POLICY p ON realtime.messages WITH CHECK (false)",
    ] {
        let before = load(&mut db, "p").await.expect("a catalog");
        db.batch_execute(change).await.expect("a change");
        let after = load(&mut db, "p").await.expect("a catalog");
        assert_ne!(after.channels, before.channels, "{change}");
    }
}
