//! The database fails over: the window and those who are there stay, and what is gone is told to those who saw it.

use super::resume::{EPOCH, behind, catch_up, come_back, heard, started, transaction};
use super::transactions::batch;
use super::*;
use crate::change::{Epoch, FailedOver, Lineage};

const PROMOTED: Epoch = Epoch(10);
const UNDONE: &str = "resync: the database failed over, and the last of what was seen may be gone";

fn failed_over(left: u64, undone: Option<&str>) -> Vec<Event> {
    vec![Event::FailedOver(FailedOver {
        lineage: Arc::new(Lineage::new(PROMOTED).from(EPOCH, Lsn(left))),
        left: Lsn(left),
        undone: undone.map(str::to_owned),
    })]
}

#[tokio::test]
async fn the_window_and_those_who_are_there_stay() {
    let (mut pump, lane, _db) = started().await;
    let handed_over = pump.parts.handed_over.subscribe();
    for (end, id) in [(110, "1"), (120, "2")] {
        batch(&mut pump, transaction(end, id)).await;
    }
    batch(&mut pump, failed_over(120, None)).await;
    batch(&mut pump, transaction(130, "3")).await;
    assert_eq!(heard(&lane), ["1", "2", "3"]);
    assert_eq!(handed_over.borrow().epoch, Some(PROMOTED));
    assert_eq!(pump.place.get().map(|place| place.epoch), Some(PROMOTED));
    let back = come_back(&mut pump, 2, behind(110), 100).await;
    catch_up(&mut pump).await;
    let rows = [
        "2 with its cursor",
        "3 with its cursor",
        "resumed: nothing was missed",
        "live",
    ];
    assert_eq!(heard(&back), rows);
    let status = pump.parts.stream.borrow().clone();
    assert_eq!(
        (status.state, status.resets),
        (StreamState::Starting, 0),
        "nothing is told"
    );
}

#[tokio::test]
async fn what_is_gone_is_told_and_its_place_is_taken() {
    let (mut pump, lane, _db) = started().await;
    for (end, id) in [(110, "1"), (120, "2")] {
        batch(&mut pump, transaction(end, id)).await;
    }
    batch(&mut pump, vec![Event::Position(Lsn(500))]).await;
    batch(&mut pump, failed_over(115, Some("gone"))).await;
    assert_eq!(
        pump.parts.stream.borrow().state,
        StreamState::Reset("gone".to_owned())
    );
    assert_eq!(
        pump.place.get().map(|place| place.position.commit),
        Some(Lsn(115))
    );
    assert_eq!(pump.parts.handed_over.borrow().delivered, Lsn(115));
    let (ahead, before) = (behind(120), behind(110));
    let ahead = come_back(&mut pump, 2, ahead, 100).await;
    let before = come_back(&mut pump, 3, before, 100).await;
    catch_up(&mut pump).await;
    assert_eq!(heard(&ahead), [UNDONE, "live"]);
    assert_eq!(heard(&before), ["resumed: nothing was missed", "live"]);
    // Other rows where the old ones were.
    batch(&mut pump, transaction(120, "3")).await;
    assert_eq!(heard(&lane), ["1", "2", "3"]);
    assert_eq!(
        (heard(&ahead), heard(&before)),
        (vec!["3".to_owned()], vec!["3".to_owned()])
    );
    assert_eq!(pump.parts.handed_over.borrow().delivered, Lsn(120));
}

#[tokio::test]
async fn who_is_on_the_way_behind_a_snapshot_may_have_seen_what_is_gone() {
    let (mut pump, _lane, _db) = started().await;
    batch(&mut pump, transaction(110, "1")).await;
    batch(&mut pump, vec![Event::Position(Lsn(130))]).await;
    let read = Since {
        seen: Some("111:125:".parse().unwrap()),
        ..behind(110)
    };
    let plain = come_back(&mut pump, 2, behind(130), 100).await;
    let read = come_back(&mut pump, 3, read, 100).await;
    batch(&mut pump, failed_over(120, None)).await;
    catch_up(&mut pump).await;
    assert_eq!(heard(&read), [UNDONE, "live"]);
    assert_eq!(
        heard(&plain),
        ["resumed: nothing was missed", "live"],
        "nothing was shown there"
    );
    // The number that the snapshot saw is that of another transaction now.
    batch(&mut pump, transaction(124, "2")).await;
    assert_eq!(
        (heard(&read), heard(&plain)),
        (vec!["2".to_owned()], vec!["2".to_owned()])
    );
}

/// Nobody waits for a position of the server before.
#[tokio::test]
async fn who_waits_to_be_live_waits_no_longer_than_for_what_there_is() {
    let (mut pump, _lane, _db) = started().await;
    let (mut add, mut answered) = checked(&pump).await;
    add.subscriber.id = SubscriberId(2);
    add.target = Lsn(400);
    pump.command(Command::Add(add)).await;
    batch(&mut pump, vec![Event::Position(Lsn(130))]).await;
    assert!(answered.try_recv().is_err(), "it waits");
    batch(&mut pump, failed_over(120, None)).await;
    assert!(matches!(answered.try_recv(), Ok(Ok(()))));
}
