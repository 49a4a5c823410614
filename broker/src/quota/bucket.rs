//! A bucket of tokens: what is not used is saved up, to a bound.
//!
//! Whoever finds tokens may take any number, also more than there are: the bucket then owes, and
//! nobody takes anything before it is paid back. KIP-599. Pure.

use std::time::Duration;

/// Tokens that come at a rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    /// Below 0: what is owed.
    tokens: f64,
    /// When they were counted.
    counted: Duration,
}

/// How many tokens come, and how many are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refill {
    /// Per second. Above 0.
    pub(crate) rate: f64,
    /// For so long they are saved up.
    pub(crate) span: Duration,
}

impl Refill {
    fn tokens_max(self) -> f64 {
        self.rate * self.span.as_secs_f64()
    }
}

impl TokenBucket {
    /// A full one.
    pub(crate) fn full(now: Duration, refill: Refill) -> Self {
        Self { tokens: refill.tokens_max(), counted: now }
    }

    /// Takes `amount` whatever is owed; says how long it takes to pay back what is owed then.
    pub(crate) fn spend(&mut self, now: Duration, refill: Refill, amount: f64) -> Duration {
        self.count(now, refill);
        self.tokens -= amount;
        self.debt(refill)
    }

    /// Takes `amount` unless something is owed.
    ///
    /// # Errors
    /// How long it takes to pay back what is owed. Nothing was taken.
    pub(crate) fn try_spend(
        &mut self,
        now: Duration,
        refill: Refill,
        amount: f64,
    ) -> Result<(), Duration> {
        self.count(now, refill);
        let debt = self.debt(refill);
        if debt > Duration::ZERO {
            return Err(debt);
        }
        self.tokens -= amount;
        Ok(())
    }

    /// True when something was owed when its tokens were last counted.
    pub(super) fn owes(&self) -> bool {
        self.tokens < 0.0
    }

    fn count(&mut self, now: Duration, refill: Refill) {
        let passed = now.saturating_sub(self.counted).as_secs_f64();
        self.tokens = (self.tokens + passed * refill.rate).min(refill.tokens_max());
        self.counted = self.counted.max(now);
    }

    fn debt(&self, refill: Refill) -> Duration {
        let owed = (-self.tokens).max(0.0);
        Duration::try_from_secs_f64(owed / refill.rate).unwrap_or(Duration::MAX)
    }
}
