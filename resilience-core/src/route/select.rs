//! Which nodes a call may go to: a function of the view, the request and the time.

use std::time::Duration;

use super::{
    error::Reason,
    observation::Role,
    position::{Coverage, Position},
    request::{Freshness, Request},
    token::Token,
    view::{Seen, Standing, View},
};

/// A set of members, by index.
pub(super) type Mask = u32;

/// Who will do for a read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survey {
    /// Replicas that are as fresh as asked.
    pub(super) fresh: Mask,
    /// Those of them that are out by lag.
    pub(super) lagging: Mask,
    /// Replicas that should have caught up since they were looked at.
    pub(super) near: Mask,
    /// When the first of the others should have caught up.
    pub(super) eta: Option<Duration>,
    /// Replicas that count.
    pub(super) replicas: u32,
    /// The token is past all that is known of the primary.
    pub(super) beyond: bool,
}

impl<P: Position> View<P> {
    /// The one node that takes writes now.
    pub(super) fn primary(&self, now: Duration) -> Result<usize, Reason> {
        match self.standing {
            Standing::One(index) => {
                let member = &self.members[index];
                let up = member.up(now, &self.config).is_some() && !member.draining;
                up.then_some(index).ok_or(Reason::NoPrimary)
            }
            Standing::Conflict => Err(Reason::Conflict),
            Standing::Nobody | Standing::Unconfirmed => Err(Reason::NoPrimary),
        }
    }

    /// What a token says by itself: whether it is `beyond` what is known.
    pub(super) fn judge(&self, token: &Token<P>, request: &Request<'_, P>) -> Result<bool, Reason> {
        if self.cluster.is_some_and(|cluster| cluster != token.cluster) {
            return Err(Reason::Foreign);
        }
        let Some(epoch) = self.epoch else {
            return Ok(true);
        };
        if token.epoch < epoch {
            return self.judge_by_history(token).map(|()| false);
        }
        let primary = self.members.iter().find(|member| {
            let seen = member.seen.as_ref();
            seen.is_some_and(|seen| seen.role == Role::Primary && seen.epoch == epoch)
        });
        let seen = primary.and_then(|member| member.seen.as_ref());
        // Asked after the token was there: it knows. At the same time may be before.
        let asked_since = seen.is_some_and(|seen| seen.at > request.arrived);
        if token.epoch > epoch {
            return if asked_since {
                Err(Reason::Future)
            } else {
                Ok(true)
            };
        }
        match seen.map(|seen| seen.position.covers(&token.position)) {
            Some(Coverage::Yes) => Ok(false),
            Some(Coverage::Diverged) => Err(Reason::Diverged),
            Some(Coverage::NotYet { .. }) if asked_since => Err(Reason::Future),
            Some(Coverage::Unknown) if asked_since => Err(Reason::UnknownHistory),
            _ => Ok(true),
        }
    }

    /// A token of an earlier epoch is lost, unless that epoch and all since ended at it or past it.
    fn judge_by_history(&self, token: &Token<P>) -> Result<(), Reason> {
        let Some(history) = &self.history else {
            return match P::TELLS_HISTORY {
                true => self.judge_by_primary(token),
                false => Err(Reason::UnknownHistory),
            };
        };
        if !history.iter().any(|fork| fork.epoch == token.epoch) {
            return Err(Reason::Diverged);
        }
        // One that took over before it had all of the epoch before cuts off more than that did.
        let since = history.iter().filter(|fork| fork.epoch >= token.epoch);
        let coverage = since.map(|fork| fork.position.covers(&token.position));
        match coverage.fold(Coverage::Yes, Coverage::and) {
            Coverage::Yes => Ok(()),
            Coverage::Unknown => Err(Reason::UnknownHistory),
            Coverage::NotYet { .. } | Coverage::Diverged => Err(Reason::Diverged),
        }
    }

    fn judge_by_primary(&self, token: &Token<P>) -> Result<(), Reason> {
        let primary = self.members.iter().find_map(|member| {
            let seen = member.seen.as_ref();
            seen.filter(|seen| seen.role == Role::Primary && Some(seen.epoch) == self.epoch)
        });
        match primary.map(|seen| seen.position.covers(&token.position)) {
            Some(Coverage::Yes) => Ok(()),
            Some(Coverage::Diverged) => Err(Reason::Diverged),
            _ => Err(Reason::UnknownHistory),
        }
    }

    /// Who will do for a read.
    pub(super) fn survey(&self, request: &Request<'_, P>, now: Duration) -> Result<Survey, Reason> {
        let mut survey = Survey::default();
        if let Freshness::AtLeast(token) = request.freshness {
            survey.beyond = self.judge(token, request)?;
        }
        for (index, member) in self.members.iter().enumerate() {
            let Some(seen) = member.up(now, &self.config) else {
                continue;
            };
            let counts = seen.role == Role::Replica
                && Some(seen.epoch) == self.epoch
                && !member.draining
                && !request.tried.contains(&member.id);
            if !counts {
                continue;
            }
            survey.replicas += 1;
            let bit = 1 << index;
            let fresh = match request.freshness {
                Freshness::Any => true,
                Freshness::Primary => false,
                Freshness::MaxLag(max) => {
                    let as_of = member.lag.as_of;
                    as_of.is_some_and(|time| now.saturating_sub(time) <= max)
                }
                Freshness::AtLeast(token) if token.epoch > self.epoch.unwrap_or(0) => false,
                Freshness::AtLeast(token) => {
                    let coverage = seen.position.covers(&token.position);
                    if let (Coverage::NotYet { .. }, false) = (coverage, member.lag.out) {
                        self.expect(&mut survey, index, seen, token, request, now);
                    }
                    coverage.is_yes()
                }
            };
            match (fresh, member.lag.out) {
                (true, false) => survey.fresh |= bit,
                (true, true) => survey.lagging |= bit,
                (false, _) => {}
            }
        }
        Ok(survey)
    }

    /// When a replica that did not have a write yet will have it, by what it usually takes.
    fn expect(
        &self,
        survey: &mut Survey,
        index: usize,
        seen: &Seen<P>,
        token: &Token<P>,
        request: &Request<'_, P>,
        now: Duration,
    ) {
        let Some(catch_up) = self.members[index].lag.catch_up else {
            return;
        };
        // A write that nobody has seen on the primary is as old as the request at least.
        let since = self.samples.reached(&token.position);
        let since = since.map_or(request.arrived, |since| since.min(request.arrived));
        // One that lacks it for longer than usual may do so for as long again.
        let lacks = seen.at.saturating_sub(since).saturating_mul(2);
        let until = since.saturating_add(catch_up.max(lacks));
        let left = until.saturating_sub(now);
        if left.is_zero() {
            survey.near |= 1 << index;
        } else {
            survey.eta = Some(survey.eta.map_or(left, |eta| eta.min(left)));
        }
    }
}
