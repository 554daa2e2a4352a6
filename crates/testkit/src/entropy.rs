//! Chance that repeats itself: the same seed gives the same bytes. Anybody can guess them, so it is for tests alone.

use std::sync::{Arc, Mutex, PoisonError};

use connectors_application::ports::Entropy;

/// A stream of bytes that follows from a seed. Clones draw from the same stream.
#[derive(Debug, Clone)]
pub struct SeededEntropy(Arc<Mutex<u64>>);

impl SeededEntropy {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }
}

impl Default for SeededEntropy {
    /// The stream of seed 0.
    fn default() -> Self {
        Self::new(0)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&split_mix(&mut state).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// One step of `SplitMix64` (Steele, Lea and Flood, 2014): small, and evenly spread.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(entropy: &SeededEntropy) -> [u8; 11] {
        let mut buffer = [0; 11];
        entropy.fill(&mut buffer);
        buffer
    }

    #[test]
    fn a_seed_decides_the_stream() {
        assert_eq!(drawn(&SeededEntropy::new(7)), drawn(&SeededEntropy::new(7)));
        assert_ne!(drawn(&SeededEntropy::new(7)), drawn(&SeededEntropy::new(8)));
        let one = SeededEntropy::new(7);
        assert_ne!(drawn(&one), drawn(&one.clone()));
    }
}
