//! Section `limits`: how much each user may do.

use std::num::NonZeroU32;

use super::error::SettingsError;
use super::table;
use super::values::Values;

/// How much each user may do; `None` for as much as he likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// Connectors that wait for the user's consent.
    pub waiting: Option<NonZeroU32>,
    /// Connects begun in a minute.
    pub connects: Option<NonZeroU32>,
    /// Calls in a second.
    pub requests: Option<NonZeroU32>,
    /// Streams of events that are open at once.
    pub streams: Option<NonZeroU32>,
}

/// What holds where there are users to protect from each other, and nobody says anything.
const SHARED: [u32; 4] = [10, 30, 100, 100];

impl LimitSettings {
    /// Reads the limits; `shared` says whether the service has more than one user.
    pub(super) fn take(values: &mut Values, shared: bool) -> Result<Self, SettingsError> {
        let [waiting, connects, requests, streams] = SHARED.map(|limit| if shared { limit } else { 0 });
        Ok(Self {
            waiting: NonZeroU32::new(values.optional_count(&table::LIMITS_WAITING)?.unwrap_or(waiting)),
            connects: NonZeroU32::new(values.optional_count(&table::LIMITS_CONNECTS)?.unwrap_or(connects)),
            requests: NonZeroU32::new(values.optional_count(&table::LIMITS_REQUESTS)?.unwrap_or(requests)),
            streams: NonZeroU32::new(values.optional_count(&table::LIMITS_STREAMS)?.unwrap_or(streams)),
        })
    }
}
