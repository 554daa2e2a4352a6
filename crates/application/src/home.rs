//! Where work lives: on the runtime on which the service was made.
//!
//! The HTTP server handles requests on threads with a runtime each, and ends those one by one when it stops, idle ones
//! first. A task or a connection that was begun there ends with its thread, whoever else has come to need it. So both are
//! begun at home, which lives until the service has ended.

use std::future::poll_fn;
use std::pin::pin;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// The runtime of the service; where it was made on none, that of whoever calls.
#[derive(Clone)]
pub(crate) struct Home(Option<Handle>);

impl Home {
    /// The runtime on which this is called.
    pub(crate) fn here() -> Self {
        Self(Handle::try_current().ok())
    }

    /// Begins a task at home.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let work = work.in_current_span();
        match &self.0 {
            Some(home) => home.spawn(work),
            None => tokio::spawn(work),
        }
    }

    /// Carries `work` on where it is awaited, but what it begins, be it tasks, timers or connections, begins at home.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            let _entered = self.0.as_ref().map(Handle::enter);
            work.as_mut().poll(context)
        })
        .await
    }
}
