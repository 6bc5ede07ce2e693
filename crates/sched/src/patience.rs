//! Patience: nobody is stopped for what comes free by itself just as soon.
//!
//! Each pool remembers how much tasks that ended by themselves gave back, fading by half in a minute. A
//! claim by priority or fair share that this stream would serve within [`Config::patience`] waits for it;
//! whoever has waited that long already does not wait longer. Guarantees, drains and promises never wait.
//! After a restart nothing is remembered, so claims are made at once.
//!
//! [`Config::patience`]: crate::Config::patience

use crate::amount::{Amount, LANES};
use crate::claims::Claimant;
use crate::fade::Fade;
use crate::pool::PoolIdx;
use crate::sched::Sched;
use base::{Span, Time};

/// What was given back counts half after so long.
const HALF_LIFE: Span = Span::from_secs(60);

/// What a pool's tasks gave back by ending, and in how much time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// Given back since `upto`.
    fresh: Amount,
    /// Given back before, faded.
    sum: Amount,
    /// Milliseconds of it, faded in the same way.
    observed: i64,
    upto: Option<Time>,
}

impl Stream {
    pub(crate) const NONE: Stream = Stream {
        fresh: Amount::ZERO,
        sum: Amount::ZERO,
        observed: 0,
        upto: None,
    };

    pub(crate) fn gave(&mut self, amount: &Amount) {
        self.fresh += amount;
    }

    /// Lets time pass.
    fn pass(&mut self, now: Time) {
        let elapsed = self.upto.map_or(Span::ZERO, |upto| now.since(upto));
        if self.upto.is_some() && elapsed == Span::ZERO {
            return;
        }
        let fade = Fade::after(elapsed, HALF_LIFE);
        for lane in 0..LANES {
            self.sum.0[lane] = fade.between(self.sum.0[lane], 0);
        }
        self.sum += &self.fresh;
        self.fresh = Amount::ZERO;
        let elapsed = i64::try_from(elapsed.as_ms()).unwrap_or(i64::MAX >> 1);
        self.observed = fade.between(self.observed, 0).saturating_add(elapsed);
        self.upto = Some(now);
    }

    /// How long it takes to give back so much of a lane; `None` where nothing comes.
    fn takes(&self, amount: i64, lane: usize) -> Option<Span> {
        let sum = self.sum.0[lane];
        if sum <= 0 {
            return None;
        }
        let ms = i128::from(amount) * i128::from(self.observed) / i128::from(sum);
        Some(Span::from_ms(u64::try_from(ms).unwrap_or(u64::MAX)))
    }
}

impl Sched {
    pub(crate) fn pass_streams(&mut self, now: Time) {
        for pool in &mut self.cluster.pools {
            pool.stream.pass(now);
        }
    }

    /// Whether a claim had better wait for what comes free by itself; it is looked at again in time.
    pub(crate) fn is_patient(&mut self, claimant: &Claimant, now: Time) -> bool {
        let patience = self.config.patience;
        let until = self.tasks.get(claimant.task).submitted + patience;
        if patience == Span::ZERO || now >= until {
            return false;
        }
        let lane = claimant.lane();
        let stream = &self.cluster.pool(claimant.pool).stream;
        let soon = stream.takes(claimant.ask.0[lane], lane);
        let waits = soon.is_some_and(|soon| soon <= patience);
        if waits {
            self.look_again_at(claimant.pool, until);
        }
        waits
    }

    /// Notes what a seat gives back that ended by itself.
    pub(crate) fn note_given_back(&mut self, pool: PoolIdx, amount: &Amount) {
        self.cluster.pool_mut(pool).stream.gave(amount);
    }
}
