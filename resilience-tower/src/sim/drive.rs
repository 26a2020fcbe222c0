//! The clients at work.

use std::{future::poll_fn, sync::Arc, time::Duration};

use tokio::time::{sleep, sleep_until, timeout};
use tower_service::Service;

use super::{
    clients::{Arrivals, Clients, Request},
    clock::VirtualClock,
    log::Log,
    random::{Stream, Times},
    report::CLIENT_TIMEOUT,
};

/// Streams of random numbers, by what they are for.
pub(super) const CLIENTS: u64 = 0;
pub(super) const WORLD: u64 = 1;
pub(super) const UPSTREAMS: u64 = 1 << 16;
const USERS: u64 = 1 << 32;

/// What all calls of a run have in common.
pub(super) struct Driver<J> {
    pub(super) judge: J,
    pub(super) clients: Clients,
    pub(super) clock: VirtualClock,
    pub(super) log: Log,
    /// No call begins from then on.
    pub(super) end: u64,
}

/// Begins calls until the end of the run; answers when no more begin.
pub(super) async fn drive<S, J>(driver: &Arc<Driver<J>>, stacks: Vec<S>, seed: u64)
where
    S: Service<Request> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    J: Judge<S>,
{
    match &driver.clients.arrivals {
        Arrivals::Open(rates) => {
            open(driver, rates, &stacks, Stream::new(seed, CLIENTS)).await;
        }
        Arrivals::Closed { users, think } => {
            for (user, stack) in (0..*users).zip(stacks.iter().cycle()) {
                let random = Stream::new(seed, USERS + user);
                let (driver, stack) = (Arc::clone(driver), stack.clone());
                tokio::spawn(closed(driver, user, *think, stack, random));
            }
            sleep_until(driver.clock.at(driver.end)).await;
        }
    }
}

/// Says what was wrong with a result, if something was.
pub(super) trait Judge<S: Service<Request>>:
    Fn(Result<&S::Response, &S::Error>) -> Result<(), &'static str> + Send + Sync + 'static
{
}

impl<S, J> Judge<S> for J
where
    S: Service<Request>,
    J: Fn(Result<&S::Response, &S::Error>) -> Result<(), &'static str> + Send + Sync + 'static,
{
}

async fn open<S, J>(driver: &Arc<Driver<J>>, rates: &[(u64, f64)], stacks: &[S], mut random: Stream)
where
    S: Service<Request> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    J: Judge<S>,
{
    let mut at = 0;
    for call in 0.. {
        at = Arrivals::next(rates, at, &mut random);
        if at >= driver.end {
            return;
        }
        if at > driver.clock.nanos() {
            sleep_until(driver.clock.at(at)).await;
        }
        let key = driver.clients.key(&mut random);
        let class = driver.clients.class(&mut random);
        let stack = &stacks[random.below(stacks.len() as u64) as usize];
        let (driver, mut stack) = (Arc::clone(driver), stack.clone());
        let request = Request {
            call,
            key,
            user: 0,
            class,
        };
        // Here and not in the task: the last one is not overlooked.
        let began = driver.begin(class);
        tokio::spawn(async move { driver.call(&mut stack, request, began).await });
    }
}

/// One user's calls, one after the other.
async fn closed<S, J>(
    driver: Arc<Driver<J>>,
    user: u64,
    think: Times,
    mut stack: S,
    mut random: Stream,
) where
    S: Service<Request> + Send,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    J: Judge<S>,
{
    // Not all at once at first.
    let first = think.draw(&mut random) as f64 * random.unit();
    sleep(Duration::from_nanos(first as u64)).await;
    // The numbers of users' calls do not meet.
    for call in (user << 32).. {
        if driver.clock.nanos() >= driver.end {
            return;
        }
        let key = driver.clients.key(&mut random);
        let class = driver.clients.class(&mut random);
        let request = Request {
            call,
            key,
            user,
            class,
        };
        let began = driver.begin(class);
        driver.call(&mut stack, request, began).await;
        sleep(Duration::from_nanos(think.draw(&mut random))).await;
    }
}

impl<J> Driver<J> {
    /// When a call begins, which is now.
    fn begin(&self, class: &'static str) -> u64 {
        let now = self.clock.nanos();
        self.log.begin(now, class);
        now
    }

    /// A call with all attempts that the client itself makes.
    async fn call<S>(&self, stack: &mut S, request: Request, began: u64)
    where
        S: Service<Request>,
        J: Judge<S>,
    {
        let mut left = self.clients.attempts.max(1);
        let how = loop {
            self.log.attempt(began);
            let how = self.attempt(stack, request).await;
            left -= 1;
            if how.is_ok() || left == 0 {
                break how;
            }
            sleep(self.clients.wait).await;
        };
        let now = self.clock.nanos();
        self.log.end(began, now, request.class, how);
    }

    async fn attempt<S>(&self, stack: &mut S, request: Request) -> Result<(), &'static str>
    where
        S: Service<Request>,
        J: Judge<S>,
    {
        let answer = async {
            poll_fn(|cx| stack.poll_ready(cx)).await?;
            stack.call(request).await
        };
        let answer = match self.clients.timeout {
            Some(after) => timeout(after, answer).await.map_err(|_| CLIENT_TIMEOUT)?,
            None => answer.await,
        };
        (self.judge)(answer.as_ref())
    }
}
