//! What an adapter of a port must hold to, as tests that run on any adapter.
//!
//! A suite is a list of functions, each of which takes a fresh adapter and panics if it finds it wanting, and a macro
//! that makes a test of each, so that the name of a test says what failed.

use std::any::Any;
use std::sync::Arc;

use connectors_application::ports::Connectors;

pub mod connectors;

/// An empty store to be tested, with what has to live as long as it: a directory, a schema. That is dropped last.
pub struct Subject {
    /// The store.
    pub store: Arc<dyn Connectors>,
    _guard: Box<dyn Any + Send>,
}

impl Subject {
    /// A store that lives in `guard`.
    pub fn new(store: impl Connectors, guard: impl Any + Send) -> Self {
        Self { store: Arc::new(store), _guard: Box::new(guard) }
    }
}
