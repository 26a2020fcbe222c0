//! What can be made to go wrong, switched while the sandbox runs.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How callbacks are signed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackScheme {
    /// As PayTabs does: header `signature`, HMAC-SHA256 of the raw body.
    #[default]
    Paytabs,
    /// With a time: `x-webhook-signature` over `timestamp "." body`, and
    /// `x-webhook-timestamp` in Unix seconds.
    Timestamped,
}

/// All switches; the default is a healthy, honest PayTabs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct SwitchSet {
    /// Wait so long before each API call is answered, in milliseconds; 0 to 60 000. At 0 those that
    /// wait are answered too.
    pub delay_ms: u64,
    /// Answer API calls with this HTTP status instead of serving them; 400 to 599.
    pub error: Option<u16>,
    /// Close the connection of API calls without an answer.
    pub outage: bool,
    /// Sign callbacks with another key.
    pub wrong_signatures: bool,
    /// Send every callback twice.
    pub duplicates: bool,
    /// Keep callbacks back until this is switched off.
    pub hold_callbacks: bool,
    /// Say "declined" when asked about a payment that the callback called paid.
    pub decline_verification: bool,
    /// Let callbacks carry an amount that is one unit of the currency too high.
    pub wrong_amount: bool,
    /// How callbacks are signed.
    pub callback_scheme: CallbackScheme,
}

/// A cloneable handle to the switches of one sandbox.
#[derive(Clone, Debug)]
pub struct Switches(Arc<watch::Sender<SwitchSet>>);

impl Switches {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(SwitchSet::default())))
    }

    /// How the switches stand.
    #[must_use]
    pub fn get(&self) -> SwitchSet {
        *self.0.borrow()
    }

    /// Sets all switches at once.
    pub fn set(&self, switches: SwitchSet) {
        self.0.send_replace(switches);
    }

    /// Changes some switches, the others stay.
    pub fn update(&self, change: impl FnOnce(&mut SwitchSet)) {
        self.0.send_modify(change);
    }

    /// Waits as long as API calls are to wait.
    pub(crate) async fn delay(&self) {
        let delay = Duration::from_millis(self.get().delay_ms);
        if delay.is_zero() {
            return;
        }
        let mut switches = self.0.subscribe();
        let off = switches.wait_for(|switches| switches.delay_ms == 0);
        let _ = tokio::time::timeout(delay, off).await;
    }

    /// Waits until callbacks are not held back.
    pub(crate) async fn callbacks_released(&self) {
        // The sender lives as long as this handle, so waiting cannot fail.
        let _ = self
            .0
            .subscribe()
            .wait_for(|switches| !switches.hold_callbacks)
            .await;
    }
}
