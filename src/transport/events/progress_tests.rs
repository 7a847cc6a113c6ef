use super::*;

fn cursor(text: &str) -> Cursor {
    text.parse().unwrap()
}

/// Channels 1, 2, … with rows, all from there on.
fn channels(count: u32, since: Option<&str>) -> Progress {
    let mut progress = Progress::default();
    for tag in 1..=count {
        progress.rows(Wanted {
            tag,
            several: false,
            paced: false,
            since,
            snapshot: false,
        });
    }
    progress
}

fn live(count: u32, at: &str) -> Progress {
    let mut progress = channels(count, None);
    let all: Vec<u32> = (1..=count).collect();
    progress.drained(&all, Some(cursor(at)), &[]);
    progress
}

fn placed(lane: u32, at: At) -> Placed {
    Placed { frame: 0, lane, at }
}

impl Progress {
    fn row_at(&mut self, lane: u32, at: &str) -> String {
        self.frame(&placed(lane, At::Row(cursor(at))), 0xa);
        self.text()
    }

    fn text(&self) -> String {
        self.place().to_string()
    }
}

#[test]
fn one_channel_is_where_its_frames_are() {
    let mut progress = channels(1, None);
    assert!(!progress.is_known());
    assert_eq!(progress.text(), "");
    progress.drained(&[1], Some(cursor("1-5")), &[]);
    assert!(progress.is_known());
    assert_eq!(progress.text(), "1-5");
    assert_eq!(progress.row_at(1, "1-8-6-0"), "1-8-6-0");
    assert_eq!(progress.row_at(1, "1-8-7-0"), "1-8-7-0");
    // The feed may have been looked at before those were put in.
    progress.drained(&[], Some(cursor("1-5")), &[]);
    assert_eq!(progress.text(), "1-8-7-0");
    progress.drained(&[], Some(cursor("1-9")), &[]);
    assert_eq!(progress.text(), "1-9");
}

#[test]
fn who_has_been_told_that_rows_are_live_has_a_place() {
    let mut progress = channels(2, None);
    progress.subscribed(1, Some(cursor("1-5")), None);
    assert_eq!(progress.text(), "1-5");
    progress.drained(&[1], Some(cursor("1-6")), &[]);
    assert_eq!(progress.text(), "1-6");
    // Whoever comes back is where it was.
    let mut progress = channels(1, Some("1-2"));
    progress.subscribed(1, Some(cursor("1-5")), None);
    assert_eq!(progress.text(), "1-2");
    // The feed has passed rows that come behind.
    for (first, place) in [
        ("1-5-4-1", "1-5-4-0"),
        ("1-5-4-0", "1-5-3-ffffffff"),
        ("1-9-1-0", "1-5"),
    ] {
        let mut progress = channels(1, None);
        progress.subscribed(1, Some(cursor("1-5")), Some(cursor(first)));
        assert_eq!(progress.text(), place);
    }
}

#[test]
fn who_is_given_what_it_missed_is_where_its_frames_are_and_not_where_the_feed_is() {
    let mut progress = channels(1, Some("1-2"));
    progress.drained(&[], Some(cursor("1-9")), &[]);
    assert_eq!(progress.text(), "1-2");
    assert_eq!(progress.row_at(1, "1-3-1-0"), "1-3-1-0");
    progress.drained(&[], Some(cursor("1-9")), &[]);
    assert_eq!(progress.text(), "1-3-1-0");
    // Live, and the last of what it missed is in the same batch.
    assert_eq!(progress.row_at(1, "1-4-1-0"), "1-4-1-0");
    progress.drained(&[1], Some(cursor("1-9")), &[]);
    assert_eq!(progress.text(), "1-9");
}

#[test]
fn channels_that_share_a_change_have_places_of_their_own_within_it() {
    let mut progress = live(2, "1-5");
    assert_eq!(progress.row_at(1, "1-8-6-0"), "1-5.r1=1-8-6-0");
    assert_eq!(progress.row_at(2, "1-8-6-0"), "1-8-6-0");
    // Everything in front of this one has been given to both.
    assert_eq!(progress.row_at(2, "1-8-7-0"), "1-8-6-0.r2=1-8-7-0");
    progress.drained(&[], Some(cursor("1-8")), &[]);
    assert_eq!(progress.text(), "1-8");
}

#[test]
fn a_live_channel_does_not_take_another_one_along() {
    let mut progress = channels(2, Some("1-2"));
    progress.drained(&[1], Some(cursor("1-5")), &[]);
    assert_eq!(progress.text(), "1-5.r2=1-2");
    assert_eq!(progress.row_at(1, "1-8-6-0"), "1-8-6-0.r2=1-2");
    assert_eq!(progress.row_at(2, "1-3-1-0"), "1-8-6-0.r2=1-3-1-0");
}

#[test]
fn between_two_frames_of_one_change_it_is_in_front_of_that() {
    let mut progress = Progress::default();
    progress.rows(Wanted {
        tag: 1,
        several: true,
        paced: false,
        since: None,
        snapshot: false,
    });
    progress.drained(&[1], Some(cursor("1-5")), &[]);
    assert_eq!(progress.row_at(1, "1-8-6-0"), "1-5");
    assert!(!progress.is_settled());
    assert_eq!(progress.row_at(1, "1-8-6-0"), "1-5");
    assert_eq!(progress.row_at(1, "1-8-7-0"), "1-8-6-0");
    progress.drained(&[], Some(cursor("1-8")), &[]);
    assert!(progress.is_settled());
    assert_eq!(progress.text(), "1-8");
}

#[test]
fn another_history_takes_the_place_of_the_one_before() {
    let mut progress = live(2, "1-5");
    progress.row_at(1, "1-8-6-0");
    assert_eq!(progress.row_at(1, "2-3-1-0"), "1-8-6-0.r1=2-3-1-0");
    progress.drained(&[], Some(cursor("2-4")), &[]);
    assert_eq!(progress.text(), "2-4");
}

#[test]
fn a_place_that_cannot_be_gone_on_from_is_given_up_once_rows_are_live() {
    for wrong in ["9-1", "1-ffff", "1-2~3:4:"] {
        let mut progress = channels(1, Some(wrong));
        progress.drained(&[], Some(cursor("1-5")), &[]);
        assert_eq!(progress.text(), wrong);
        progress.drained(&[1], Some(cursor("1-6")), &[]);
        assert_eq!(progress.text(), "1-6");
    }
}

#[test]
fn behind_a_snapshot_the_place_tells_what_it_has_seen() {
    let mut progress = channels(1, Some("1-2~3:4:"));
    assert_eq!(progress.text(), "1-2~3:4:");
    assert_eq!(progress.row_at(1, "1-3-1-0"), "1-3-1-0~~3:4:");
    progress.drained(&[1], Some(cursor("1-6")), &[]);
    assert_eq!(progress.text(), "1-6");
}

#[test]
fn rooms_have_numbers_of_their_own() {
    let mut progress = live(1, "1-5");
    progress.returns(2, "9-3@1-2");
    assert_eq!(progress.text(), "1-5.b2=9-3@1-2");
    let said = |lane, number| placed(lane, At::Room(number));
    progress.frame(&said(2, 0x1e), 0xa);
    progress.frame(&said(3, 0x1f), 0xa);
    progress.presence(3, 9);
    assert_eq!(progress.text(), "1-5.b2=a-1e@1-5.b3=a-1f@1-5.p3=9");
    // Nothing that the database said in between was for it.
    progress.drained(&[], Some(cursor("1-6")), &[]);
    progress.frame(&said(2, 0x20), 0xa);
    progress.over(3);
    assert_eq!(progress.text(), "1-6.b2=a-20@1-6");
}

#[test]
fn a_channel_for_which_changes_are_gathered_is_in_front_of_them() {
    let mut progress = live(1, "1-5");
    progress.rows(Wanted {
        tag: 2,
        several: false,
        paced: true,
        since: None,
        snapshot: false,
    });
    progress.drained(&[2], Some(cursor("1-6")), &[(2, cursor("1-6"))]);
    assert_eq!(progress.text(), "1-6");
    // Another one gets on, and this one is behind, whatever leaves for it in front of something else.
    assert_eq!(progress.row_at(1, "1-9-8-0"), "1-6.r1=1-9-8-0");
    progress.frame(&placed(2, At::Ahead(cursor("1-9-8-0"))), 0xa);
    assert_eq!(progress.text(), "1-6.r1=1-9-8-0");
    progress.drained(&[], Some(cursor("1-c")), &[(2, cursor("1-9-7-0"))]);
    assert_eq!(progress.text(), "1-c.r2=1-9-7-0");
    // What leaves in order takes it along, and the feed may have been looked at before.
    assert_eq!(progress.row_at(2, "1-9-8-0"), "1-c.r2=1-9-8-0");
    assert_eq!(progress.row_at(2, "1-b-a-0"), "1-c.r2=1-b-a-0");
    progress.drained(&[], Some(cursor("1-c")), &[(2, cursor("1-a"))]);
    assert_eq!(progress.text(), "1-c.r2=1-b-a-0");
    progress.drained(&[], Some(cursor("1-c")), &[(2, cursor("1-c"))]);
    assert_eq!(progress.text(), "1-c");
    assert_eq!(progress.row_at(2, "1-b-a-0"), "1-c", "known to be behind it");
}

#[test]
fn a_gathered_change_in_several_frames_is_passed_with_the_next_one() {
    let mut progress = Progress::default();
    progress.rows(Wanted {
        tag: 1,
        several: true,
        paced: true,
        since: Some("1-5"),
        snapshot: false,
    });
    assert_eq!(progress.row_at(1, "1-8-6-0"), "1-5");
    assert_eq!(progress.row_at(1, "1-8-7-0"), "1-8-6-0");
    progress.drained(&[1], Some(cursor("1-9")), &[(1, cursor("1-8-7-0"))]);
    assert_eq!(progress.text(), "1-8-7-0");
    progress.drained(&[], Some(cursor("1-9")), &[(1, cursor("1-9"))]);
    assert_eq!(progress.row_at(1, "1-b-a-0"), "1-9", "not back to where it was");
}

#[test]
fn between_its_rows_a_channel_has_to_begin_again() {
    let mut progress = live(1, "1-5");
    progress.rows(Wanted {
        tag: 2,
        several: false,
        paced: false,
        since: Some("1-2"),
        snapshot: true,
    });
    // It may be able to go on.
    assert_eq!(progress.text(), "1-5.r2=1-2");
    assert!(progress.waits_for_rows() && !progress.is_between_rows());
    progress.snapshot_begins(2, true);
    assert_eq!(progress.text(), "1-5.r2=");
    progress.drained(&[], Some(cursor("1-6")), &[]);
    assert_eq!(progress.text(), "1-6.r2=");
    assert!(progress.is_between_rows());
    progress.snapshot(2, "1-6~3:4:");
    assert_eq!(progress.row_at(2, "1-4-1-0"), "1-6.r2=1-4-1-0~~3:4:");
    assert!(!progress.waits_for_rows());
    progress.drained(&[2], Some(cursor("1-7")), &[]);
    assert_eq!(progress.text(), "1-7");
    assert_eq!(progress.row_at(2, "1-9-1-0"), "1-7.r2=1-9-1-0");
}

#[test]
fn behind_its_rows_it_begins_again_until_it_has_a_whole_change() {
    let mut progress = Progress::default();
    progress.rows(Wanted {
        tag: 1,
        several: true,
        paced: false,
        since: None,
        snapshot: true,
    });
    progress.snapshot(1, "1-2~3:4:");
    progress.snapshot_begins(1, false);
    assert_eq!(progress.row_at(1, "1-4-1-0"), ".r1=");
    assert_eq!(progress.row_at(1, "1-4-2-0"), "1-4-1-0~~3:4:");
}
