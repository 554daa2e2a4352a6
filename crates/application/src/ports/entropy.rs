//! Chance.

/// A source of randomness that nobody can guess.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Entropy: Send + Sync + 'static {
    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}
