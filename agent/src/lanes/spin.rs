//! A lane that expects work soon looks for it a little before it sleeps.
//!
//! To wake a thread costs more than most of what a lane does with a small message; where the core went to sleep with it,
//! far more. Of a request and its answer across nodes, wake-ups are the greater part. So, where the last pauses between two
//! pieces of work were short, a lane asks the kernel for events without waiting, and lets others have its core in between.
//! Where pauses are long it sleeps at once: an idle node uses no processor time. So it does where much is moved at once:
//! what waits in the sockets then makes up for being late.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
    thread::yield_now,
    time::{Duration, Instant},
};
use weft_io::socket::{Moves, moves};

/// How long to look for work, and the longest pause that counts as short. A request that is answered at once comes back
/// within this, with all the wake-ups of others on its way.
const LONGEST: Duration = Duration::from_micros(100);
/// How much trust it takes to look.
const TRUST: u32 = 4;
/// Each short pause adds one, up to so many.
const MOST_TRUST: u32 = 8;
/// What a long pause takes, or bulk: after two of them at most nobody looks.
const LONG_PAUSE: u32 = 3;

thread_local! {
    static LANE: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static PAUSES: Pauses = const { Pauses::new() };
}

/// Says that this thread is a lane whose first future is the one that awaits this.
pub async fn begin() {
    poll_fn(|cx| {
        LANE.set(Some(cx.waker().clone()));
        Poll::Ready(())
    })
    .await;
}

/// What a lane does each time it has nothing to do, before it sleeps.
pub fn before_sleep() {
    if PAUSES.with(|pauses| pauses.is_worth_a_look(moves(), Instant::now())) {
        yield_now();
        LANE.with_borrow(|lane| {
            if let Some(lane) = lane {
                // With something left to do, the runtime asks for events but does not wait for them.
                lane.wake_by_ref();
            }
        });
    }
}

/// What a lane knows of the pauses between its pieces of work.
struct Pauses {
    /// How often bytes had moved when the pause began.
    moves: Cell<Moves>,
    /// When it began.
    since: Cell<Option<Instant>>,
    trust: Cell<u32>,
}

impl Pauses {
    const fn new() -> Self {
        Self { moves: Cell::new(Moves { all: 0, bulk: 0 }), since: Cell::new(None), trust: Cell::new(0) }
    }

    /// Whether to look for work once more, `moves` being how often bytes have moved by `now`.
    fn is_worth_a_look(&self, moves: Moves, now: Instant) -> bool {
        let pause = self.since.get().map(|since| now.saturating_duration_since(since));
        let before = self.moves.get();
        if pause.is_some() && before == moves {
            return self.trust.get() >= TRUST && pause < Some(LONGEST);
        }
        let trust = self.trust.get();
        self.trust.set(match pause {
            Some(pause) if pause <= LONGEST && before.bulk == moves.bulk => (trust + 1).min(MOST_TRUST),
            _ => trust.saturating_sub(LONG_PAUSE),
        });
        self.moves.set(moves);
        self.since.set(Some(now));
        self.trust.get() >= TRUST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of work `apart`, each of which moves bytes; whether a look was worth it after the last.
    fn work(pauses: &Pauses, clock: &mut Instant, moves: &mut Moves, apart: Duration, times: u32) -> bool {
        (0..times).fold(false, |_, _| {
            *clock += apart;
            moves.all += 1;
            pauses.is_worth_a_look(*moves, *clock)
        })
    }

    #[test]
    fn a_lane_looks_only_while_pauses_are_short() {
        let (pauses, mut clock, mut moves) = (Pauses::new(), Instant::now(), Moves::default());
        let (short, long) = (LONGEST / 2, LONGEST * 20);
        assert!(!work(&pauses, &mut clock, &mut moves, short, TRUST), "nothing was before the first one");
        assert!(work(&pauses, &mut clock, &mut moves, short, 1));
        assert!(work(&pauses, &mut clock, &mut moves, short, 100));
        assert!(work(&pauses, &mut clock, &mut moves, long, 1), "one long pause is forgiven");
        assert!(!work(&pauses, &mut clock, &mut moves, long, 1));
        assert!(!work(&pauses, &mut clock, &mut moves, long, 100));
        assert!(work(&pauses, &mut clock, &mut moves, short, TRUST), "and it begins anew");
    }

    #[test]
    fn a_lane_that_moves_much_at_once_sleeps() {
        let (pauses, mut clock, mut moves) = (Pauses::new(), Instant::now(), Moves::default());
        assert!(work(&pauses, &mut clock, &mut moves, LONGEST / 2, 100));
        for _ in 0..2 {
            moves.bulk += 1;
            work(&pauses, &mut clock, &mut moves, LONGEST / 2, 1);
        }
        assert!(!pauses.is_worth_a_look(moves, clock + LONGEST / 4));
    }

    #[test]
    fn a_look_has_an_end() {
        let (pauses, mut clock, mut moves) = (Pauses::new(), Instant::now(), Moves::default());
        assert!(work(&pauses, &mut clock, &mut moves, LONGEST / 2, 100));
        assert!(pauses.is_worth_a_look(moves, clock + LONGEST / 2));
        assert!(!pauses.is_worth_a_look(moves, clock + LONGEST));
        assert!(!pauses.is_worth_a_look(moves, clock + LONGEST * 50));
    }
}
