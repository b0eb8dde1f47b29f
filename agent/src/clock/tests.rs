//! The properties of clocks that other tests rely on.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const NOON: Time = Time(1_700_000_000_000_000);

fn is_pending(future: &mut std::pin::Pin<&mut impl Future>) -> bool {
    matches!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}

#[test]
fn a_standing_clock_moves_when_it_is_moved() {
    let test = TestClock::standing(NOON);
    let (clock, begin) = (test.clock(), test.clock().now());
    assert_eq!((clock.wall(), clock.now(), clock.since(begin)), (NOON, begin, Duration::ZERO));
    test.advance(HOUR);
    assert_eq!((clock.wall().0 - NOON.0, clock.since(begin)), (3_600_000_000, HOUR));
    test.step(-5_000_000);
    assert_eq!((clock.wall().0 - NOON.0, clock.since(begin)), (3_595_000_000, HOUR));
    test.set_wall(Time(7));
    assert_eq!((clock.wall(), test.wall(), clock.since(begin)), (Time(7), Time(7), HOUR));
    assert_eq!(clock.since(begin + 2 * HOUR), Duration::ZERO, "what is still to come");
}

#[test]
fn each_look_moves_the_wall_clock_if_so_asked() {
    let test = TestClock::standing(NOON).moved_by_each_look(1_000);
    let (clock, begin) = (test.clock(), test.clock().now());
    assert_eq!([clock.wall().0 - NOON.0, clock.wall().0 - NOON.0], [1_000, 2_000]);
    assert_eq!((test.wall().0 - NOON.0, clock.since(begin)), (2_000, Duration::ZERO));
}

#[test]
fn a_running_clock_goes_on_from_where_it_was_moved_to() {
    let test = TestClock::running();
    let (clock, begin) = (test.clock(), Instant::now());
    test.advance(HOUR);
    let wall = clock.wall();
    let mut looks = 0;
    while clock.since(begin) < HOUR + Duration::from_millis(20) {
        looks += 1;
    }
    let passed = clock.wall().0 - wall.0;
    assert!(passed >= 19_000, "{passed} µs of the wall clock after {looks} looks at the other");
    test.stand();
    let stood = (clock.now(), clock.wall());
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!((clock.now(), clock.wall()), stood);
}

#[test]
fn the_clocks_of_the_system_go_on() {
    let (clock, begin) = (Clock::system(), Instant::now());
    assert!(clock.now() >= begin && clock.since(begin) < HOUR);
    assert!(clock.wall() > NOON, "this machine's clock is wrong");
    assert_eq!(clock.block_for(HOUR), HOUR);
    let moved = TestClock::running().clock();
    assert!(moved.block_for(HOUR) < Duration::from_millis(100), "a test's advance would not be noticed");
    assert_eq!(moved.block_for(Duration::ZERO), Duration::ZERO);
}

#[tokio::test]
async fn a_sleep_ends_when_the_clock_is_moved() {
    for test in [TestClock::standing(NOON), TestClock::running()] {
        let clock = test.clock();
        let mut sleep = pin!(clock.sleep(2 * HOUR));
        assert!(is_pending(&mut sleep));
        test.advance(HOUR);
        assert!(is_pending(&mut sleep), "only half of it has passed");
        test.step(7_200_000_000);
        assert!(is_pending(&mut sleep), "the wall clock has nothing to do with it");
        test.advance(HOUR);
        sleep.await;
    }
    TestClock::running().clock().sleep(Duration::from_millis(5)).await;
}

#[tokio::test]
async fn work_may_take_no_longer_than_its_limit() {
    let test = TestClock::standing(NOON);
    let clock = test.clock();
    assert_eq!(clock.within(Duration::ZERO, std::future::ready(5)).await, Some(5));
    let mut late = pin!(clock.within(HOUR, std::future::pending::<()>()));
    assert!(is_pending(&mut late));
    test.advance(HOUR);
    assert_eq!(late.await, None);
}
