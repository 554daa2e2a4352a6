//! What an adapter of a port must hold to, as tests that run on any adapter.
//!
//! A suite is a list of functions, each of which takes a fresh adapter and panics if it finds it wanting, and a macro
//! that makes a test of each, so that the name of a test says what failed.

use std::any::Any;
use std::sync::Arc;

use connectors_application::ports::{Agenda, ApiTokens, Changes, Connectors, Registrations, Renewals, Revocations};

pub mod agenda;
pub mod api_tokens;
pub mod changes;
pub mod connectors;
mod of;
pub mod registrations;
pub mod renewals;
pub mod revocations;
pub mod sealer;

/// An empty store to be tested, with what has to live as long as it: a directory, a schema. That is dropped last.
///
/// It is one store; each field is one of its ports.
pub struct Subject {
    /// The store.
    pub store: Arc<dyn Connectors>,
    /// The same, as [`Renewals`].
    pub renewals: Arc<dyn Renewals>,
    /// The same, as [`Agenda`].
    pub agenda: Arc<dyn Agenda>,
    /// The same, as [`Revocations`].
    pub revocations: Arc<dyn Revocations>,
    /// The same, as [`Changes`].
    pub changes: Arc<dyn Changes>,
    /// The same, as [`Registrations`].
    pub registrations: Arc<dyn Registrations>,
    /// The same, as [`ApiTokens`].
    pub api_tokens: Arc<dyn ApiTokens>,
    _guard: Box<dyn Any + Send + Sync>,
}

impl Subject {
    /// A store that lives in `guard`.
    pub fn new(
        store: impl Connectors + Renewals + Agenda + Revocations + Changes + Registrations + ApiTokens,
        guard: impl Any + Send + Sync,
    ) -> Self {
        let store = Arc::new(store);
        Self {
            renewals: store.clone(),
            agenda: store.clone(),
            revocations: store.clone(),
            changes: store.clone(),
            registrations: store.clone(),
            api_tokens: store.clone(),
            store,
            _guard: Box::new(guard),
        }
    }
}

/// Makes tests of functions in a module here. `$make` names an async function that returns `Option<Subject>`; `None` skips
/// the test.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($suite:ident, $make:path: $($test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(subject) = $make().await {
                    $crate::contract::$suite::$test(&subject).await;
                }
            }
        )*
    };
}
