//! The time.

use jiff::Timestamp;

/// Tells the time.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Clock: Send + Sync + 'static {
    /// The time now, in whole microseconds: what every store can keep.
    fn now(&self) -> Timestamp;
}
