//! The `connectors` program. Everything that it does is in the library, where it can be tested.

use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;

/// How long the end waits for SQLite to close its files: a process that is gone in the middle leaves them to be recovered.
const CLOSING: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    // Several threads: the SQLite driver needs them. `#[tokio::main]` would do, but for the end: it waits for name
    // look-ups that hang, and the time to stop has a limit.
    match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let status = runtime.block_on(connectors_app::cli::run());
            runtime.shutdown_timeout(CLOSING);
            status
        }
        Err(_) => ExitCode::FAILURE,
    }
}
