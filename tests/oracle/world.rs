//! A whole database from a seed: tables, rows, policies, memberships, and the readers with their claims.

use serde_json::{Value, json};

use super::expression::{Expression, Scope, condition};
use super::kinds::{ALICE, BOB, COLUMNS, Kind};
use super::random::Random;
use super::subquery::READ;

/// Everything that a verdict depends on.
#[derive(Clone, Debug)]
pub struct World {
    pub tables: Vec<Table>,
    /// Rows of the tables that subqueries read, by [`READ`], as SQL values.
    pub read: [Vec<String>; 3],
    /// Row-level security of those tables, as an index into [`PROTECTIONS`].
    pub protection: usize,
    pub readers: Vec<Reader>,
}

/// A table whose rows are judged.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    /// Behind `id`.
    pub columns: Vec<(String, Kind)>,
    /// A row's values as SQL literals, without its `id`, which is its place from 1.
    pub rows: Vec<Row>,
    pub policies: Vec<Policy>,
    pub owner: &'static str,
    pub forced: bool,
    /// The column that only some may read.
    pub hidden: Option<usize>,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: i32,
    pub values: Vec<String>,
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    pub name: String,
    pub kind: &'static str,
    pub command: &'static str,
    pub roles: &'static str,
    pub using: Expression,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Reader {
    pub role: &'static str,
    /// With `role` and `exp`, as a verified token has them.
    pub claims: Value,
}

/// Row-level security of the tables that subqueries read.
const PROTECTIONS: [&str; 5] = [
    "",
    "alter table world.members enable row level security;
     create policy own on world.members using (member = auth.uid() or level > 5);",
    "alter table world.members enable row level security;
     create policy seen on world.members using (exists (select from world.admins a where a.who = auth.uid())
        or team in (select t.id from world.teams t where t.owner = (select auth.uid())));",
    "alter table world.members enable row level security;
     alter table world.teams enable row level security;
     create policy own on world.teams to authenticated using (owner = auth.uid() or name = 'abc');
     create policy own on world.members as restrictive to authenticated using (member = auth.uid());
     create policy every on world.members using (true);",
    "alter table world.teams enable row level security; alter table world.teams replica identity default;
     revoke select on world.admins from anon;
     revoke select on world.members from anon; grant select (team, member) on world.members to anon;",
];

/// Roles of the cluster; repeated by every world, as their names are the cluster's own.
pub const ROLES: &str = "
    do $$ begin
        create role oracle_group;
        create role oracle_owner;
        create role oracle_bypass bypassrls;
        create role oracle_member in role oracle_group, authenticated;
        create role oracle_alone noinherit in role oracle_group, authenticated;
    exception when duplicate_object then null; end $$;";

/// What every world has. Roles may enter `auth`, as those that tokens name can: the judge relies on it.
const SCHEMA: &str = "
    drop schema if exists world cascade;
    create schema world;
    grant usage on schema world, auth to public;
    create type world.mood as enum ('sad', 'ok', 'Happy');
    create domain world.level as int check (value > -1000);
    create domain world.address as text check (value like '%@%');
    create table world.members (team int, member uuid, level int, label text, since timestamptz);
    create table world.teams (id int, owner uuid, name text, tags text[]);
    create table world.admins (who uuid);
    alter table world.members replica identity full;
    alter table world.teams replica identity full;
    alter table world.admins replica identity full;
    grant select on all tables in schema world to public;
    create function world.claim(name text) returns text language sql stable as 'select auth.jwt() ->> name';
    create function world.shout(t text) returns text language sql immutable strict as 'select upper(t) || ''!''';
    create function world.is_member(t int) returns bool language sql stable as
        'select exists (select from world.members m where m.team = t and m.member = auth.uid())';
    create function world.is_member_of(t int) returns bool language sql stable security definer set search_path = '' as
        'select exists (select 1 from world.members m where m.team = t and m.member = auth.uid())';
    create function world.is_admin() returns bool language plpgsql stable security definer set search_path = '' as
        'begin return exists (select from world.admins a where a.who = auth.uid()); end';
    create function world.my_teams() returns setof int language sql stable security definer set search_path = '' as
        'select m.team from world.members m where m.member = (select auth.uid())';
    create function world.team_name(t int) returns text language sql stable as
        'select t2.name from world.teams t2 where t2.id = t limit 1';
    create function world.can_read(who uuid, t int) returns bool language sql stable as
        'select who = auth.uid() or world.is_member_of(t)';
    create function world.share(n int) returns int language sql immutable as 'select 6 / n';
    create function world.share_strict(n int, whole int) returns int language sql immutable strict as 'select whole / n';
    create function world.first_of(a int, b int) returns int language sql immutable as 'select a';
    create function world.either(a bool, b bool) returns bool language sql stable strict as 'select a or b';
    create function world.number(name text) returns int language sql stable as 'select (auth.jwt() ->> name)::int';
    create function world.graded(n int) returns text language sql immutable as
        'select case when n > 2 then ''high'' when n / (n - 1) = 2 then ''two'' else ''low'' end';
    create function world.level_in(t int) returns int language sql stable security definer set search_path = '' as
        'select m.level from world.members m where m.team = t and m.member = auth.uid() order by m.level desc limit 1';
    create function world.team_list() returns int[] language sql stable as
        'select array(select m.team from world.members m where m.member = auth.uid())';
    create function world.teams_of(who uuid) returns setof int language sql stable as
        'select m.team from world.members m where m.member = who';
    create function world.among(t int, all_of int[]) returns bool language sql immutable as 'select t = any (all_of)';
    create function world.has_level(lowest int, t int default 3) returns bool language sql stable as
        'select exists (select from world.members m where m.team = t and m.level >= lowest)';
    create function world.odd(n int) returns bool language plpgsql immutable as 'begin return 1 / n = 1; end';
";

/// A random world of so many tables, without policies.
pub fn world(random: &mut Random, tables: usize) -> World {
    let tables = (0..tables).map(|n| table(random, n)).collect();
    let mut read = [Vec::new(), Vec::new(), Vec::new()];
    for (rows, (_, columns)) in read.iter_mut().zip(READ) {
        for _ in 0..random.below(7) {
            let values: Vec<String> = columns
                .iter()
                .map(|(_, kind)| literal(random, *kind, 10))
                .collect();
            rows.push(values.join(", "));
        }
    }
    World {
        tables,
        read,
        protection: random.below(PROTECTIONS.len()),
        readers: readers(random),
    }
}

fn table(random: &mut Random, n: usize) -> Table {
    // What policies are about most often, and a choice of the rest.
    let mut kinds = vec![Kind::Int4, Kind::Uuid, Kind::Text, Kind::Bool];
    kinds.extend((0..8).map(|_| random.of(&COLUMNS)));
    let columns: Vec<(String, Kind)> = kinds
        .iter()
        .enumerate()
        .map(|(i, kind)| {
            (
                format!("{}{i}", if i == 4 { "\"Odd Name\" c" } else { "c" }),
                *kind,
            )
        })
        .map(|(name, kind)| (name.replace("\"Odd Name\" c4", "\"Odd Name\""), kind))
        .collect();
    let rows = (1..=10)
        .map(|id| Row {
            id,
            values: columns
                .iter()
                .map(|(_, kind)| literal(random, *kind, 15))
                .collect(),
        })
        .collect();
    Table {
        name: format!("t{n}"),
        rows,
        policies: Vec::new(),
        owner: random.of(&[
            "oracle_owner",
            "oracle_owner",
            "oracle_owner",
            "oracle_group",
            "authenticated",
        ]),
        forced: random.percent(50),
        hidden: random.percent(30).then(|| random.below(columns.len())),
        columns,
    }
}

/// A value, NULL so many times of a hundred.
pub fn literal(random: &mut Random, kind: Kind, nulls: usize) -> String {
    match random.percent(nulls) {
        true => "null".to_owned(),
        false => random.of(kind.values()).to_owned(),
    }
}

/// New policies for every table.
pub fn policies(random: &mut Random, world: &mut World) {
    for table in &mut world.tables {
        let scope = table.scope(random.of(&[55, 55, 20]));
        let count = random.of(&[1, 1, 1, 2, 3]);
        table.policies = (0..count)
            .map(|n| Policy {
                name: format!("p{n}"),
                kind: if n == 0 {
                    "permissive"
                } else {
                    random.of(&["permissive", "restrictive"])
                },
                command: random.of(&["all", "select", "select"]),
                roles: random.of(&[
                    "public",
                    "public",
                    "public",
                    "authenticated",
                    "anon, oracle_group",
                    "oracle_owner",
                ]),
                using: {
                    let depth = random.of(&[0, 0, 1, 1, 2, 3]);
                    condition(random, &scope, depth)
                },
            })
            .collect();
    }
}

/// Anybody that a token may speak of, and what is odd about tokens.
fn readers(random: &mut Random) -> Vec<Reader> {
    let claims = [
        json!({"sub": ALICE, "team": 3, "plan": "pro", "email": "a@b.c", "app_metadata": {"tenant": "abc", "level": 2,
            "roles": ["a", "pro"], "user": BOB}, "teams": [1, 3], "roles": ["a", "b"], "is_admin": true}),
        json!({"sub": BOB, "team": "3", "plan": "a", "app_metadata": {"tenant": null, "level": "7", "roles": []},
            "teams": [], "roles": [null, "pro"], "is_admin": "false"}),
        json!({"sub": BOB, "team": 1.0, "plan": "É", "k": "v", "user": ALICE}),
        json!({}),
        json!({"sub": null, "email": null, "team": null, "app_metadata": null, "teams": null, "is_admin": null}),
        json!({"sub": "not-a-uuid", "team": "x", "teams": {"a": 1}, "plan": 12, "is_admin": "maybe"}),
        json!({"sub": "null", "team": 99_999_999_999_u64, "plan": ["a"], "app_metadata": "text"}),
        json!({"sub": "", "email": "", "team": "", "plan": ""}),
        json!({"sub": 7, "email": 1, "team": " 3 ", "plan": true, "app_metadata": {"user": 1, "level": -7.5}}),
        json!({"sub": ALICE.to_uppercase(), "plan": "a\u{0}b", "team": 2}),
        json!({"sub": format!("{{{ALICE}}}"), "plan": "日本", "team": 3, "teams": ["3", 3], "é": "ß"}),
        json!({"sub": ALICE, "plan": "abc", "team": 3, "pad": "x".repeat(100_000)}),
    ];
    let roles = [
        "authenticated",
        "authenticated",
        "anon",
        "service_role",
        "oracle_member",
        "oracle_alone",
        "oracle_bypass",
        "oracle_owner",
    ];
    (0..9)
        .map(|i| {
            let role = if i < 3 { "authenticated" } else { random.of(&roles) };
            let mut claims = if i < 3 {
                claims[i].clone()
            } else {
                random.one(&claims).clone()
            };
            claims["role"] = json!(role);
            claims["exp"] = json!(4_000_000_000_u64);
            Reader { role, claims }
        })
        .collect()
}

impl Reader {
    /// Claims in which everything is what it is taken for.
    pub fn harmless() -> Self {
        let claims = json!({"role": "authenticated", "sub": ALICE, "team": 3, "plan": "12", "email": "a@b.c", "exp": 4_000_000_000_u64,
            "app_metadata": {"tenant": "3", "level": 2, "roles": ["3"], "user": BOB}, "teams": [1], "roles": ["3"],
            "is_admin": true, "k": "3", "n": "3", "b": "3", "é": "3", "missing": "3", "user": BOB});
        Self {
            role: "authenticated",
            claims,
        }
    }
}

impl World {
    /// The statements that make it, policies left out.
    pub fn sql(&self) -> String {
        format!("{SCHEMA}{}", self.contents())
    }

    /// The part of them that is this world's own.
    pub fn contents(&self) -> String {
        let mut sql = String::new();
        for ((name, _), rows) in READ.iter().zip(&self.read) {
            for row in rows {
                sql.push_str(&format!("insert into world.{name} values ({row});\n"));
            }
        }
        sql.push_str(PROTECTIONS[self.protection]);
        self.tables.iter().for_each(|table| sql.push_str(&table.sql()));
        sql
    }
}

impl Table {
    /// What its policies may name.
    fn scope(&self, share: usize) -> Scope {
        let qualify = |(name, kind): &(String, Kind)| (format!("{}.{name}", self.name), *kind);
        Scope {
            columns: self.columns.iter().map(qualify).collect(),
            share,
        }
    }

    fn sql(&self) -> String {
        let name = &self.name;
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|(column, kind)| format!(", {column} {}{}", kind.sql(), kind.collation()))
            .collect();
        let readable: Vec<&str> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(i, _)| self.hidden.is_some_and(|hidden| hidden != *i))
            .map(|(_, column)| column.0.as_str())
            .collect();
        let mut sql = format!(
            "\ncreate table world.{name} (id int primary key{});\n",
            columns.concat()
        );
        for row in &self.rows {
            sql.push_str(&format!(
                "insert into world.{name} values ({}{});\n",
                row.id,
                row.values
                    .iter()
                    .map(|value| format!(", {value}"))
                    .collect::<String>()
            ));
        }
        let grant = match readable.is_empty() {
            true => "select".to_owned(),
            false => format!("select (id, {})", readable.join(", ")),
        };
        let force = if self.forced { "force" } else { "no force" };
        sql.push_str(&format!(
            "grant {grant} on world.{name} to public; alter table world.{name} owner to {};
             alter table world.{name} enable row level security; alter table world.{name} {force} row level security;
             alter publication supabase_realtime add table world.{name};\n",
            self.owner
        ));
        sql
    }
}

impl Policy {
    /// The statement that makes it.
    pub fn sql(&self, table: &Table) -> String {
        format!(
            "create policy {} on world.{} as {} for {} to {} using ({})",
            self.name, table.name, self.kind, self.command, self.roles, self.using
        )
    }
}

/// Drops the policies of every judged table.
pub const DROP_POLICIES: &str = "
    do $$ declare found record; begin
        for found in select policyname, tablename from pg_policies where schemaname = 'world' and tablename ~ '^t[0-9]' loop
            execute format('drop policy %I on world.%I', found.policyname, found.tablename);
        end loop;
    end $$";
