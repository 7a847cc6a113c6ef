//! Programs over a catalog made by hand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::auth::{Claims, Scope};
use crate::expression::{Comparison, Context, Datum, Evaluated, Expr, Node, Relation, Stop};
use crate::policy::program::{Judged, Program, Source};
use crate::policy::relation::ParamKey;
use crate::postgres::catalog::testing::table as fixture;
use crate::postgres::catalog::{
    Access, Body, Catalog, Column, Function, Policy, ReplicaIdentity, RowAccess, Table, Types, Volatility,
};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "b0000000-0000-4000-8000-000000000002";

/// `auth.uid()`, as Postgres prints its body.
const UID: &str = r#"SELECT (COALESCE(NULLIF(current_setting('request.jwt.claim.sub'::text, true), ''::text), ((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::jsonb ->> 'sub'::text)))::uuid AS x"#;

fn table(oid: u32, name: &str, columns: &[(&str, u32)], policies: Vec<Policy>) -> Table {
    let column = |(i, (name, type_oid)): (usize, &(&str, u32))| Column {
        attnum: i16::try_from(i + 1).expect("few columns"),
        name: (*name).into(),
        type_oid: *type_oid,
        type_name: "".into(),
        collation: None,
        deterministic: true,
        not_null: false,
        generated: None,
    };
    Table {
        columns: columns.iter().enumerate().map(column).collect(),
        primary_key: vec![0],
        replica_identity: ReplicaIdentity::Full,
        rls: !policies.is_empty(),
        policies,
        ..fixture(oid, name)
    }
}

fn policy(using: &str, permissive: bool) -> Policy {
    Policy {
        name: using.to_owned(),
        permissive,
        roles: vec![0],
        using: Some(using.to_owned()),
        columns: Vec::new(),
        whole_row: false,
        relations: Vec::new(),
        functions: Vec::new(),
    }
}

fn function(oid: u32, schema: &str, name: &str, returns: u32, query: Option<&str>) -> Arc<Function> {
    Arc::new(Function {
        oid,
        schema: schema.into(),
        name: name.into(),
        arguments: Vec::new(),
        returns,
        returns_set: false,
        volatility: Volatility::Stable,
        strict: false,
        security_definer: false,
        owner: "postgres".into(),
        is_cast: false,
        body: query.map(|query| Body {
            query: query.to_owned(),
            parameters: Vec::new(),
            relations: Vec::new(),
            functions: Vec::new(),
        }),
    })
}

/// Columns `id int4, owner uuid, team int4, open bool` under these policies; those that begin with `!` restrict.
fn program(policies: &[&str]) -> Program {
    let policies: Vec<Policy> = policies
        .iter()
        .map(|using| match using.strip_prefix('!') {
            Some(using) => policy(using, false),
            None => policy(using, true),
        })
        .collect();
    let of_kind = |permissive: bool| {
        let indexes = policies
            .iter()
            .enumerate()
            .filter(|(_, policy)| policy.permissive == permissive);
        indexes.map(|(i, _)| i).collect::<Vec<_>>()
    };
    let access = Access {
        columns: vec![true; 4],
        rows: RowAccess::Policies {
            permissive: of_kind(true),
            restrictive: of_kind(false),
        },
        files: RowAccess::Unrestricted,
    };
    let members = table(2, "members", &[("team", 23), ("member", 2950)], Vec::new());
    let immutable = |oid, name, query| {
        let function = function(oid, "public", name, 2950, Some(query));
        Arc::new(Function {
            volatility: Volatility::Immutable,
            ..Function::clone(&function)
        })
    };
    let functions = [
        function(10, "auth", "uid", 2950, Some(UID)),
        immutable(13, "said_to_be_constant", UID),
        immutable(
            14,
            "read_while_planning",
            "SELECT m.member AS x FROM public.members m",
        ),
        function(11, "public", "check_in_plpgsql", 16, None),
        function(12, "public", "not_for_you", 16, Some("SELECT true AS x")),
    ];
    let catalog = Catalog {
        types: Arc::new(Types::default()),
        others: HashMap::from([(2, Arc::new(members))]),
        functions: functions
            .into_iter()
            .map(|function| (function.oid, function))
            .collect(),
        ..Catalog::default()
    };
    let columns = [("id", 23), ("owner", 2950), ("team", 23), ("open", 16)];
    let docs = table(1, "docs", &columns, policies);
    Program::new(&docs, &access, &HashSet::from([10, 11, 13, 14]), &catalog)
}

fn claims(sub: &str, rest: serde_json::Value) -> Arc<Claims> {
    let mut json = rest;
    json["sub"] = sub.into();
    Arc::new(Claims {
        role: "authenticated".into(),
        sub: Some(sub.into()),
        exp: 4_102_444_800,
        scope: None,
        json: json.to_string().into(),
    })
}

/// A row of `docs` that is open.
struct Open;

impl Context for Open {
    fn column(&self, index: usize) -> Evaluated {
        Ok((index == 3).then_some(Datum::Bool(true)))
    }
    fn param(&self, _: usize) -> Evaluated {
        Err(Stop::ask("a parameter in a residual"))
    }
    fn relation(&self, _: usize) -> Result<&Relation, Stop> {
        Err(Stop::ask("no relations"))
    }
    fn now(&self) -> i64 {
        0
    }
}

#[test]
fn claims_that_no_policy_reads_make_no_classes() {
    let program = program(&["(owner = auth.uid())"]);
    let alice = program.bind(&claims(ALICE, serde_json::json!({"session": 1})));
    let alice_again = program.bind(&claims(ALICE, serde_json::json!({"session": 2})));
    let bob = program.bind(&claims(BOB, serde_json::json!({})));
    assert_eq!(alice, alice_again);
    assert_ne!(alice, bob);
    assert_eq!(alice.keys, [ParamKey::Text(ALICE.into())]);
    assert_eq!(program.columns().iter().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn values_that_only_postgres_knows_are_nobody_elses() {
    let program = program(&["(lower(current_setting('request.jwt.claim.role'::text)) = 'role'::text)"]);
    let same = |one: &str, other: &str| {
        let of = |role: &str| {
            let claims = claims(ALICE, serde_json::json!({}));
            let role = role.into();
            program.bind(&Arc::new(Claims {
                role,
                ..(*claims).clone()
            }))
        };
        of(one) == of(other)
    };
    assert!(same("role", "ROLE"));
    assert!(!same("role", "other"));
    // How these are folded is a matter of the database's locale.
    assert!(same("\u{c9}", "\u{c9}"));
    assert!(!same("\u{c9}", "\u{ca}"));
}

#[test]
fn the_residual_is_a_comparison_of_the_row_with_a_constant() {
    let program = program(&["(owner = ( SELECT auth.uid() AS uid))"]);
    let residual = program.residual(&program.bind(&claims(ALICE, serde_json::json!({}))));
    let Node::Compare(Comparison::Eq, left, right) = &residual.node else {
        panic!("a comparison, not {residual:?}");
    };
    assert!(matches!(left.node, Node::Column(1)));
    assert!(matches!(right.node, Node::Const(Some(Datum::Uuid(_)))));
}

#[test]
fn a_program_of_constants_is_a_constant() {
    let constant = |policies: &[&str], sub: &str| {
        let program = program(policies);
        let bound = program.bind(&claims(sub, serde_json::json!({})));
        program.residual(&bound).as_truth()
    };
    assert_eq!(constant(&[], ALICE), Some(Some(false)), "no permissive policy");
    assert_eq!(
        constant(&["!true"], ALICE),
        Some(Some(false)),
        "only a restrictive one"
    );
    assert_eq!(constant(&["true"], ALICE), Some(Some(true)));
    assert_eq!(constant(&["open", "true"], ALICE), Some(Some(true)));
    assert_eq!(constant(&["true", "!false"], ALICE), Some(Some(false)));
    assert_eq!(constant(&["true", "!NULL::boolean"], ALICE), Some(Some(false)));
    let is_alice = format!("(auth.uid() = '{ALICE}'::uuid)");
    assert_eq!(constant(&[&is_alice], ALICE), Some(Some(true)));
    assert_eq!(
        constant(&["open", &format!("!{is_alice}")], BOB),
        Some(Some(false))
    );
    assert_eq!(constant(&["open", &format!("!{is_alice}")], ALICE), None);
}

#[test]
fn what_raises_for_somebody_raises_at_its_place() {
    for (policies, expected) in [
        (&["(open OR (owner = auth.uid()))"][..], Ok(true)),
        (&["(owner = auth.uid())", "open"][..], Err(())),
        (&["(open AND (owner = auth.uid()))"][..], Err(())),
        (&["((NOT open) AND (owner = auth.uid()))"][..], Ok(false)),
        (&["open", "!(owner = auth.uid())"][..], Err(())),
        (&["(owner = auth.uid())", "!(NOT open)"][..], Ok(false)),
    ] {
        let program = program(policies);
        let bound = program.bind(&claims("nobody", serde_json::json!({})));
        let residual = program.residual(&bound);
        let passes = residual
            .passes(&Open)
            .map_err(|stop| assert_eq!(stop, Stop::Raise("22P02")));
        assert_eq!(passes, expected, "{policies:?}");
    }
}

#[test]
fn subqueries_are_requested_by_what_decides_them() {
    let program = program(&[
        "(EXISTS ( SELECT 1 FROM public.members m WHERE ((m.team = docs.team) AND (m.member = auth.uid()))))",
    ]);
    let [relation] = program.relations() else {
        panic!("one relation, not {:?}", program.relations());
    };
    assert_eq!(
        &*relation.sql,
        "SELECT DISTINCT m.team FROM public.members m WHERE (m.member = auth.uid())"
    );
    assert_eq!((&*relation.params, &*relation.reads), (&[0][..], &[2][..]));
    let probe = relation.probe.as_ref().expect("a probe");
    assert_eq!((probe.table, probe.column, probe.param), (2, 1, 0));
    let alice = claims(ALICE, serde_json::json!({}));
    let bound = program.bind(&alice);
    let [request] = &program.requests(&bound, &alice)[..] else {
        panic!("one request");
    };
    assert_eq!(request.params, [ParamKey::Text(ALICE.into())]);
    assert!(matches!(
        program.residual(&bound).node,
        Node::In { exists: true, .. }
    ));
    // Two whose claims have no value could not be told apart.
    let nobody = claims("nobody", serde_json::json!({}));
    let bound = program.bind(&nobody);
    assert!(program.requests(&bound, &nobody).is_empty());
    assert!(matches!(program.residual(&bound).node, Node::Stop(Stop::Ask(_))));
}

fn in_channel(claims: &Arc<Claims>, topic: &str, headers: &str) -> Arc<Claims> {
    Arc::new(claims.within(Arc::new(Scope {
        topic: topic.into(),
        headers: headers.into(),
    })))
}

#[test]
fn a_channels_scope_makes_classes_where_policies_read_it() {
    let topic = program(&["(current_setting('realtime.topic'::text, true) = 'a'::text)"]);
    let alice = claims(ALICE, serde_json::json!({}));
    let bound = |topic_name: &str, headers: &str| topic.bind(&in_channel(&alice, topic_name, headers));
    assert_eq!(bound("a", "{}"), bound("a", r#"{"x-a": "b"}"#));
    assert_ne!(bound("a", "{}"), bound("b", "{}"));
    assert_eq!(bound("", "{}"), topic.bind(&alice));
    assert_eq!(topic.residual(&bound("a", "{}")).as_truth(), Some(Some(true)));
    assert_eq!(topic.residual(&topic.bind(&alice)).as_truth(), Some(Some(false)));
    let headers =
        program(&["((current_setting('request.headers'::text, true))::json ->> 'x-a'::text) IS NULL"]);
    let without = headers.residual(&headers.bind(&alice));
    assert_eq!(
        without.as_truth(),
        Some(Some(true)),
        "no header is nothing that raises"
    );
}

#[test]
fn what_a_subquery_compares_with_the_reader_is_looked_up_before_the_topic() {
    let topic = "(m.team = (current_setting('realtime.topic'::text, true))::integer)";
    let column = |conditions: &str| {
        let exists = format!("(EXISTS ( SELECT 1 FROM public.members m WHERE {conditions}))");
        let program = program(&[&exists]);
        let relation = program.relations().first().expect("a relation");
        (
            relation.probe.as_ref().map(|probe| probe.column),
            relation.params.len(),
        )
    };
    let mine = "(m.member = auth.uid())";
    assert_eq!(column(&format!("({topic} AND {mine})")), (Some(1), 2));
    assert_eq!(column(&format!("({mine} AND {topic})")), (Some(1), 2));
    assert_eq!(column(topic), (Some(0), 1));
}

#[test]
fn each_policy_says_how_it_is_judged() {
    let verdicts = |policies: &[&str]| {
        let program = program(policies);
        let verdicts: Vec<Judged> = program
            .policies()
            .iter()
            .map(|policy| policy.verdict.clone())
            .collect();
        assert!(
            program
                .policies()
                .iter()
                .all(|policy| policy.source == Source::Database)
        );
        (program.asks(), verdicts)
    };
    assert_eq!(verdicts(&["open"]), (false, vec![Judged::Compiled]));
    let (asks, found) = verdicts(&["(team IN ( SELECT members.team FROM public.members))", "open"]);
    assert_eq!((asks, found), (false, vec![Judged::Sets(1), Judged::Compiled]));
    let reasons = |policy: &str| match verdicts(&[policy]) {
        (true, found) => match &found[..] {
            [Judged::Asks(reasons)] => reasons.join("; "),
            other => panic!("{policy}: {other:?}"),
        },
        (false, found) => panic!("{policy}: {found:?}"),
    };
    assert_eq!(
        reasons("(open OR public.check_in_plpgsql())"),
        "calls public.check_in_plpgsql"
    );
    assert_eq!(
        reasons("(open OR public.not_for_you())"),
        "calls public.not_for_you, which the role may not call"
    );
    assert_eq!(
        reasons("(current_setting('app.x'::text) = 'a'::text)"),
        "the setting app.x"
    );
    assert_eq!(reasons("(ctid IS NULL)"), "reads ctid");
    assert!(reasons("(team IN ( SELECT v.team FROM public.v))").contains("public.v"));
}

#[test]
fn a_call_that_postgres_refuses_is_asked_whatever_stands_beside_it() {
    let program = program(&["(open OR public.not_for_you())"]);
    let residual = program.residual(&program.bind(&claims(ALICE, serde_json::json!({}))));
    assert!(matches!(residual.passes(&Open), Err(Stop::Ask(_))));
}

#[test]
fn what_is_said_to_be_immutable_is_evaluated_before_everything_else() {
    let passes = |policy: &str, sub: &str| {
        let program = program(&[policy]);
        let residual = program.residual(&program.bind(&claims(sub, serde_json::json!({}))));
        residual.passes(&Open).ok()
    };
    let policy = "(open OR (owner = public.said_to_be_constant()))";
    assert_eq!(passes(policy, ALICE), Some(true));
    assert_eq!(passes(policy, "nobody"), None);
    assert_eq!(
        passes("(open OR (owner = public.read_while_planning()))", ALICE),
        None
    );
}

#[test]
fn a_policy_that_is_gone_denies() {
    let access = Access {
        columns: vec![true],
        rows: RowAccess::Policies {
            permissive: vec![7],
            restrictive: Vec::new(),
        },
        files: RowAccess::Unrestricted,
    };
    let docs = table(1, "docs", &[("id", 23)], Vec::new());
    let program = Program::new(&docs, &access, &HashSet::new(), &Catalog::default());
    let bound = program.bind(&claims(ALICE, serde_json::json!({})));
    assert_eq!(Expr::as_truth(&program.residual(&bound)), Some(Some(false)));
}
