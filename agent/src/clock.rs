//! Time as an injected value: the wall clock, which may be set, and the monotonic clock. Network timers (keep-alive,
//! connecting, answers) use the runtime's clock.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fieldlog_projections::Time;
use tokio::sync::watch;

/// How often, in real time, a thread that waits on a [`TestClock`] checks it.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Both clocks of the system, or those of a test.
#[derive(Clone, Debug)]
pub struct Clock(Option<TestClock>);

impl Clock {
    /// The clocks of the system.
    pub const fn system() -> Clock {
        Clock(None)
    }

    /// The wall clock, in microseconds since 1970; 0 if it is set before that.
    pub fn wall(&self) -> Time {
        self.0.as_ref().map_or_else(system_wall, TestClock::look)
    }

    /// The monotonic clock.
    pub fn now(&self) -> Instant {
        self.0.as_ref().map_or_else(Instant::now, TestClock::now)
    }

    /// Time since a moment of the monotonic clock; zero if that is in the future.
    pub fn since(&self, moment: Instant) -> Duration {
        self.now().saturating_duration_since(moment)
    }

    /// Time since the kernel booted, sleep included, in microseconds.
    pub fn booted_for(&self) -> u64 {
        match &self.0 {
            None => system_booted_for(),
            Some(clock) => clock.booted_for(),
        }
    }

    /// Whether the wall clock is known to be synchronised.
    pub fn is_synchronised(&self) -> bool {
        match &self.0 {
            // systemd-timesyncd touches this file when it has set the clock; other time services do not say so to everyone.
            None => Path::new("/run/systemd/timesync/synchronized").exists(),
            Some(clock) => clock.state().synchronised,
        }
    }

    /// How long a thread with nothing to do for `wait` may block: `wait`, or less if a test may move the clock
    /// meanwhile.
    pub fn block_for(&self, wait: Duration) -> Duration {
        if self.0.is_some() { wait.min(LOOK_AGAIN) } else { wait }
    }

    /// Sleeps for this time.
    pub async fn sleep(&self, wait: Duration) {
        match &self.0 {
            None => tokio::time::sleep(wait).await,
            Some(clock) => clock.sleep(wait).await,
        }
    }

    /// Waits for `work`, but no longer than `limit`; `None` if it takes longer.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(limit) => None,
        }
    }
}

fn system_wall() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Time(since.map_or(0, |d| d.as_micros() as i64))
}

fn system_booted_for() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000)
}

fn nanos(wall: Time) -> i128 {
    i128::from(wall.0) * 1_000
}

/// A clock for tests, which advance it instead of waiting. All clones move together.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<Moved>);

#[derive(Debug)]
struct Moved {
    state: Mutex<State>,
    /// Wakes the sleepers on this clock.
    changes: watch::Sender<()>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    now: Instant,
    /// Nanoseconds since 1970, so that frequent reads lose nothing.
    wall: i128,
    /// The system's monotonic time that corresponds to the two above, while the clock is running.
    running: Option<Instant>,
    /// How far each read of the wall clock advances it, in microseconds.
    each_look: i64,
    /// When it was made; the kernel has been up for a day then.
    made: Instant,
    /// Whether it says that it is synchronised.
    synchronised: bool,
}

impl State {
    fn new(now: Instant, wall: i128) -> State {
        State { now, wall, running: None, each_look: 0, made: now, synchronised: true }
    }

    /// Catches up with the system's clock.
    fn catch_up(&mut self) {
        if let Some(at) = &mut self.running {
            let system = Instant::now();
            let passed = system.saturating_duration_since(*at);
            *at = system;
            self.pass(passed);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall += time.as_nanos() as i128;
    }

    fn wall(&self) -> Time {
        Time(self.wall.div_euclid(1_000) as i64)
    }
}

impl TestClock {
    /// A clock that runs with the system's clocks, starting from their time.
    pub fn running() -> TestClock {
        let now = Instant::now();
        TestClock::from(State { running: Some(now), ..State::new(now, nanos(system_wall())) })
    }

    /// A clock that stands still at this wall clock time.
    pub fn standing(wall: Time) -> TestClock {
        TestClock::from(State::new(Instant::now(), nanos(wall)))
    }

    /// Makes each read of the wall clock advance it by so many microseconds, so that records are deterministic.
    #[must_use]
    pub fn moved_by_each_look(self, micros: i64) -> TestClock {
        self.state().each_look = micros;
        self
    }

    /// The clock for the stages.
    pub fn clock(&self) -> Clock {
        Clock(Some(self.clone()))
    }

    /// Advances both clocks.
    pub fn advance(&self, time: Duration) {
        self.change(|state| state.pass(time));
    }

    /// Steps only the wall clock, by so many microseconds.
    pub fn step(&self, micros: i64) {
        self.change(|state| state.wall += nanos(Time(micros)));
    }

    /// Sets only the wall clock.
    pub fn set_wall(&self, wall: Time) {
        self.change(|state| state.wall = nanos(wall));
    }

    /// Whether it says from now on that the wall clock is synchronised.
    pub fn set_synchronised(&self, synchronised: bool) {
        self.change(|state| state.synchronised = synchronised);
    }

    fn booted_for(&self) -> u64 {
        const DAY_MICROS: u64 = 86_400_000_000;
        let mut state = self.state();
        state.catch_up();
        let up = state.now.saturating_duration_since(state.made).as_micros();
        DAY_MICROS.saturating_add(u64::try_from(up).unwrap_or(u64::MAX))
    }

    /// Stops the clock; from now on only the test moves it.
    pub fn stand(&self) {
        self.change(|state| state.running = None);
    }

    /// Reads the wall clock without advancing it.
    pub fn wall(&self) -> Time {
        let mut state = self.state();
        state.catch_up();
        state.wall()
    }

    fn look(&self) -> Time {
        let mut state = self.state();
        state.catch_up();
        state.wall += nanos(Time(state.each_look));
        state.wall()
    }

    fn now(&self) -> Instant {
        let mut state = self.state();
        state.catch_up();
        state.now
    }

    async fn sleep(&self, wait: Duration) {
        let mut changes = self.0.changes.subscribe();
        let begin = self.now();
        loop {
            changes.borrow_and_update();
            let left = wait.saturating_sub(self.now().saturating_duration_since(begin));
            if left.is_zero() {
                return;
            }
            let runs = self.state().running.is_some();
            tokio::select! {
                // The sender lives as long as this clock.
                _ = changes.changed() => {}
                () = tokio::time::sleep(left), if runs => {}
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.state();
            state.catch_up();
            change(&mut state);
        }
        self.0.changes.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn from(state: State) -> TestClock {
        TestClock(Arc::new(Moved { state: Mutex::new(state), changes: watch::channel(()).0 }))
    }
}

#[cfg(test)]
mod tests;
