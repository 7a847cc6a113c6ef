use std::time::Duration;

use tokio::time::Instant;

use super::health::{Level, SlotHealth, WalStatus, Warnings};
use super::heartbeat::Pulse;

const MIB: u64 = 1 << 20;

fn health(change: impl FnOnce(&mut SlotHealth)) -> SlotHealth {
    let mut health = SlotHealth {
        status: WalStatus::Reserved,
        invalidated: None,
        retained: 0,
        unconfirmed: 0,
        confirmed: 0,
        safe: None,
        keep_size: None,
        wal_budget: 1024 * MIB,
        in_recovery: false,
    };
    change(&mut health);
    health
}

#[test]
fn the_window_gets_its_budget_and_never_what_the_slot_needs() {
    assert_eq!(health(|_| {}).headroom(), 1024 * MIB);
    let limited = health(|h| (h.keep_size, h.safe) = (Some(512 * MIB), Some(512 * MIB)));
    assert_eq!(limited.headroom(), 256 * MIB, "half of what is kept");
    let short = health(|h| (h.keep_size, h.safe) = (Some(512 * MIB), Some(100 * MIB)));
    assert_eq!(short.headroom(), 100 * MIB, "others hold wal back as well");
    for status in [WalStatus::Unreserved, WalStatus::Lost] {
        assert_eq!(health(|h| h.status = status).headroom(), 0);
    }
    let extended = health(|h| (h.status, h.keep_size) = (WalStatus::Extended, Some(512 * MIB)));
    assert_eq!(extended.headroom(), 256 * MIB);
}

#[test]
fn each_worsening_is_said_once() {
    let mut warnings = Warnings::default();
    let kept = |mib| health(|h| (h.keep_size, h.retained) = (Some(100 * MIB), mib * MIB));
    let mut look = |health: &SlotHealth| warnings.look("s", health);
    assert_eq!(look(&kept(79)), Level::Fine);
    assert_eq!(look(&kept(80)), Level::Near);
    assert_eq!(look(&kept(75)), Level::Near, "not over yet");
    assert_eq!(look(&kept(69)), Level::Fine);
    assert_eq!(look(&kept(75)), Level::Fine, "not near yet");
    assert_eq!(
        look(&health(|h| h.status = WalStatus::Unreserved)),
        Level::Unreserved
    );
    assert_eq!(look(&health(|h| h.status = WalStatus::Lost)), Level::Lost);
}

#[test]
fn a_slot_without_a_limit_is_near_at_twice_the_budget() {
    assert!(health(|h| h.retained = 1024 * MIB).used() <= 0.5);
    assert!(health(|h| h.retained = 2048 * MIB).used() >= 0.8);
}

#[test]
fn words_of_postgres() {
    assert_eq!(WalStatus::from_postgres(Some("extended")), WalStatus::Extended);
    assert_eq!(WalStatus::from_postgres(Some("other")), WalStatus::Unknown);
    assert_eq!(WalStatus::from_postgres(None), WalStatus::Unknown);
}

#[test]
fn a_heartbeat_is_for_a_slot_that_stands_still_while_others_write() {
    let mut pulse = Pulse::new(Duration::from_secs(60));
    let start = Instant::now();
    let mut due = |seconds, slot| pulse.is_due(slot, start + Duration::from_secs(seconds));
    assert!(!due(0, Some((1, MIB))));
    assert!(!due(50, Some((1, 2 * MIB))));
    assert!(!due(60, Some((2, MIB))), "it moved");
    assert!(!due(110, Some((2, MIB))));
    assert!(due(120, Some((2, MIB))));
    assert!(!due(130, Some((2, MIB))), "one is under way");
    assert!(due(180, Some((2, MIB))), "it did not help");
    assert!(!due(400, Some((2, 100))), "nothing is written");
    assert!(!due(410, Some((2, MIB))));
    assert!(!due(420, None), "another server's");
    assert!(!due(471, Some((2, MIB))), "counted from when it was ours again");
    assert!(due(531, Some((2, MIB))));
    pulse.stop();
    assert!(!pulse.is_due(Some((2, MIB)), start + Duration::from_secs(10_000)));
}
