//! Who shares what, and what a change makes out of date.

use super::*;
use crate::policy::relations::RelationId;

/// Holds a relation and takes these numbers for it.
fn filled(relations: &mut Relations, request: &RelationRequest, rows: &[i32]) -> RelationId {
    let id = relations.hold(request, &"reader".into());
    let moment = relations.clock().now();
    assert!(relations.offer(id, numbers(rows), &moment));
    id
}

fn length(relations: &Relations, id: RelationId) -> Option<usize> {
    relations.get(id).ok().map(|relation| relation.rows().len())
}

#[test]
fn equal_requests_share_a_relation_until_the_last_is_gone() {
    let mut relations = store(100);
    let orgs = of_person();
    let role: Arc<str> = "reader".into();
    let id = filled(&mut relations, &person(&orgs, "1"), &[1, 2]);
    assert_eq!(relations.hold(&person(&orgs, "1"), &role), id);
    assert_ne!(relations.hold(&person(&orgs, "2"), &role), id);
    assert_ne!(relations.hold(&person(&orgs, "1"), &"other".into()), id);
    // Another program, whose parameter 4 may be anything.
    assert_ne!(relations.hold(&person(&of_person(), "1"), &role), id);
    relations.release(id);
    assert_eq!(length(&relations, id), Some(2));
    relations.release(id);
    assert_eq!(length(&relations, id), None);
    let again = relations.hold(&person(&orgs, "1"), &role);
    assert_eq!(length(&relations, again), None, "to be read once more");
}

#[test]
fn a_definers_relation_is_everybodys() {
    let mut relations = store(100);
    let query = Arc::new(RelationQuery {
        owner: Some("owner".into()),
        ..query("", &[Ty::Int4])
    });
    let id = relations.hold(&request(&query, &[]), &"one".into());
    assert_eq!(relations.hold(&request(&query, &[]), &"two".into()), id);
}

#[test]
fn nothing_is_answered_before_it_is_read() {
    let mut relations = store(100);
    let id = relations.hold(&person(&of_person(), "1"), &"reader".into());
    assert!(relations.stale());
    assert!(matches!(relations.get(id), Err(Stop::Ask(_))));
}

/// Which of persons 1, 2 and NULL have to be read again.
fn concerned(table: &Table, change: &Change) -> [bool; 3] {
    let mut relations = store(100);
    let orgs = of_person();
    let ids = [
        filled(&mut relations, &person(&orgs, "1"), &[1]),
        filled(&mut relations, &person(&orgs, "2"), &[1]),
        filled(&mut relations, &request(&orgs, &[ParamKey::Null]), &[]),
    ];
    assert!(!relations.stale());
    relations.changed(table, change, 1);
    ids.map(|id| relations.get(id).is_err())
}

#[test]
fn a_change_concerns_those_whose_value_is_in_the_row() {
    let of = |id: &str| row(&[("org", Some("5")), ("person", Some(id))]);
    let key = || row(&[("org", Some("5"))]);
    let null = || row(&[("org", Some("5")), ("person", None)]);
    let two = || Some(of("2"));
    for (concerns, change) in [
        ([true, false, false], change(Action::Insert, None, Some(of("1")))),
        ([false, false, false], change(Action::Insert, None, Some(of("3")))),
        ([false, false, false], change(Action::Insert, None, Some(null()))),
        ([true, true, false], change(Action::Insert, None, Some(key()))),
        (
            [true, true, false],
            change(Action::Insert, None, Some(of("what"))),
        ),
        ([true, true, false], change(Action::Update, Some(of("1")), two())),
        ([false, true, false], change(Action::Update, two(), two())),
        // It went from or to nobody.
        ([false, true, false], change(Action::Update, Some(null()), two())),
        // What it was before is not known.
        ([true, true, false], change(Action::Update, Some(key()), two())),
        ([true, true, false], change(Action::Update, None, two())),
        // The new row does not carry the value, which is then the old one.
        ([false, true, false], change(Action::Update, two(), Some(key()))),
        ([false, true, false], change(Action::Delete, two(), None)),
        ([true, true, false], change(Action::Delete, Some(key()), None)),
        ([true, true, false], change(Action::Delete, None, None)),
        ([true, true, false], change(Action::Truncate, None, None)),
    ] {
        assert_eq!(concerned(&members(), &change), concerns, "{change:?}");
    }
}

#[test]
fn what_cannot_be_told_apart_concerns_everybody() {
    let insert = change(
        Action::Insert,
        None,
        Some(row(&[("org", Some("5")), ("person", Some("3"))])),
    );
    assert_eq!(concerned(&table(ORGS, &["org", "person"]), &insert), [true; 3]);
    let mut members = members();
    members.columns[1].deterministic = false;
    assert_eq!(concerned(&members, &insert), [true, true, false]);
    members.columns[1].name = "renamed".into();
    members.columns[1].deterministic = true;
    assert_eq!(concerned(&members, &insert), [true, true, false]);
    assert_eq!(concerned(&table(9, &["org", "person"]), &insert), [false; 3]);
}

#[test]
fn blanks_at_the_end_and_what_is_no_number_are_not_told_apart() {
    for (ty, held, value, concerned) in [
        (Ty::Text, "a", Some("a  "), true),
        (Ty::Text, "a", Some(" a"), false),
        (Ty::Numeric, "1.50", Some("1.5"), true),
        (Ty::Numeric, "1.5", Some("2"), false),
        (Ty::Numeric, "1.5", None, true),
        (Ty::Float8, "1.5", Some("2"), true),
    ] {
        let mut query = RelationQuery::clone(&of_person());
        query.probe.as_mut().unwrap().ty = ty.clone();
        let mut relations = store(100);
        let id = filled(&mut relations, &person(&Arc::new(query), held), &[1]);
        let insert = change(Action::Insert, None, Some(row(&[("person", value)])));
        relations.changed(&members(), &insert, 1);
        assert_eq!(relations.get(id).is_err(), concerned, "{ty:?} {held} {value:?}");
    }
}

#[test]
fn tables_that_are_not_watched_are_never_answered_from() {
    let mut relations = store(100);
    let id = filled(&mut relations, &person(&of_person(), "1"), &[1]);
    relations.watch([ORGS].into());
    assert!(matches!(relations.get(id), Err(Stop::Ask(_))));
    assert!(!relations.stale(), "nor read");
    relations.invalidate_all(None);
    assert!(!relations.stale());
    relations.watch([ORGS, MEMBERS].into());
    assert!(relations.stale());
    assert!(
        matches!(relations.get(id), Err(Stop::Ask(_))),
        "not before it was read"
    );
}

#[test]
fn a_reading_is_of_use_until_something_it_reads_changes() {
    let insert = change(Action::Insert, None, Some(row(&[("person", Some("9"))])));
    let mut relations = store(100);
    let orgs = of_person();
    let id = relations.hold(&person(&orgs, "1"), &"reader".into());
    let before = relations.clock().now();
    relations.changed(&table(77, &["x"]), &insert, 5);
    assert!(relations.offer(id, numbers(&[1]), &before), "another table");
    let id = relations.hold(&person(&orgs, "2"), &"reader".into());
    relations.changed(&members(), &insert, 6);
    assert!(!relations.offer(id, numbers(&[1]), &before));
    let between = relations.clock().now();
    assert_eq!(between.writers(), [5, 6], "a reading now has to wait for these");
    relations.changed(&members(), &insert, 6);
    assert!(
        relations.offer(id, numbers(&[1]), &between),
        "which covers all that 6 did"
    );
    relations.invalidate_all(Some(7));
    assert!(!relations.offer(id, numbers(&[1]), &between));
    assert!(!relations.offer(id, Err(Stop::Unavailable("x".into())), &relations.clock().now()));
    assert_eq!(relations.clock().now().writers(), [5, 6, 7]);
    let before = relations.clock().now();
    relations.reset();
    assert!(!relations.offer(id, numbers(&[1]), &before));
    assert!(relations.clock().now().writers().is_empty());
}

#[test]
fn past_the_bound_postgres_is_asked() {
    let mut relations = store(4);
    let orgs = of_person();
    let first = filled(&mut relations, &person(&orgs, "1"), &[1, 2]);
    let second = filled(&mut relations, &person(&orgs, "2"), &[1, 2]);
    let third = filled(&mut relations, &person(&orgs, "3"), &[1]);
    assert_eq!(
        [first, second, third].map(|id| length(&relations, id)),
        [Some(2), Some(2), None]
    );
    assert!(matches!(relations.get(third), Err(Stop::Ask(_))));
    // It is not tried at every change: asking stays right.
    let insert = change(Action::Insert, None, Some(row(&[("person", Some("3"))])));
    relations.changed(&members(), &insert, 1);
    assert!(!relations.stale());
    assert!(matches!(relations.get(third), Err(Stop::Ask(_))));
}

#[test]
fn an_error_is_held_like_rows() {
    let mut relations = store(4);
    let id = relations.hold(&person(&of_person(), "1"), &"reader".into());
    let moment = relations.clock().now();
    assert!(relations.offer(id, Err(Stop::Raised("22012".into())), &moment));
    assert_eq!(relations.get(id).unwrap_err(), Stop::Raised("22012".into()));
    relations.invalidate_all(None);
    assert!(relations.stale());
    assert!(
        matches!(relations.get(id), Err(Stop::Ask(_))),
        "it may no longer raise"
    );
}

#[test]
fn what_many_rows_concern_is_found_again_after_it_was_read() {
    let mut relations = store(100);
    let orgs = of_person();
    let whole = Arc::new(query("", &[Ty::Int4]));
    let truncate = change(Action::Truncate, None, None);
    let probed = filled(&mut relations, &person(&orgs, "1"), &[1]);
    let any = filled(&mut relations, &request(&whole, &[]), &[1]);
    for _ in 0..2 {
        relations.changed(&members(), &truncate, 1);
        relations.changed(&members(), &truncate, 1);
        assert!(relations.get(probed).is_err() && relations.get(any).is_err());
        let moment = relations.clock().now();
        for id in [probed, any] {
            assert!(relations.offer(id, numbers(&[1]), &moment));
            assert!(relations.get(id).is_ok());
        }
    }
}

#[test]
fn what_was_so_holds_until_something_that_it_reads_may_have_changed() {
    let mut relations = store(100);
    let moment = relations.clock().now();
    assert!(relations.unchanged(&moment, [MEMBERS, ORGS].iter()));
    let insert = change(Action::Insert, None, Some(row(&[("person", Some("9"))])));
    relations.changed(&members(), &insert, 5);
    assert!(!relations.unchanged(&moment, [MEMBERS, ORGS].iter()));
    assert!(relations.unchanged(&moment, [ORGS].iter()));
    // Nobody says when this one changes.
    assert!(!relations.unchanged(&moment, [u32::MAX].iter()));
    relations.invalidate_all(None);
    assert!(!relations.unchanged(&moment, [ORGS].iter()));
    assert!(!relations.unchanged(&moment, [].iter()));
}
