//! Sealing without a cipher, for tests: what is handed out is a random handle, and what it stands for stays here.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_application::ports::{Seal, Sealer, SealerError};
use connectors_domain::Secret;

/// Keeps what it seals, and gives a handle for it that nobody can guess. Clones stand for the replicas that share keys: each
/// opens what another one has sealed.
#[derive(Clone, Default)]
pub struct MemorySealer(Arc<Mutex<HashMap<String, (Seal, Secret)>>>);

impl MemorySealer {
    /// One that has sealed nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all that was sealed, as if every key had been replaced.
    pub fn forget(&self) {
        self.sealed().clear();
    }

    fn sealed(&self) -> MutexGuard<'_, HashMap<String, (Seal, Secret)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemorySealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySealer").field("sealed", &self.sealed().len()).finish()
    }
}

impl Sealer for MemorySealer {
    fn seal(&self, seal: &Seal, text: &str) -> Result<String, SealerError> {
        let mut random = [0; 32];
        rand::fill(&mut random).map_err(|_| SealerError)?;
        let handle = URL_SAFE_NO_PAD.encode(random);
        self.sealed().insert(handle.clone(), (seal.clone(), Secret::new(text)));
        Ok(handle)
    }

    fn open(&self, seal: &Seal, sealed: &str) -> Option<Secret> {
        let table = self.sealed();
        table.get(sealed).filter(|(bound, _)| bound == seal).map(|(_, text)| text.clone())
    }
}
