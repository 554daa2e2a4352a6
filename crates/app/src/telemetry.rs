//! The log: what is written, in which form, and what never is. The audit log is a part of it, or a file of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use connectors_application::audit;
use thiserror::Error;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, FilterFn, Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::settings::{LogFormat, LogSettings};

/// The file of the audit log cannot be used.
#[derive(Debug, Error)]
#[error("log.audit_file: {} cannot be opened for appending", path.display())]
pub(crate) struct AuditFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Starts the log on standard error, and lets panics be logged. Whoever calls it a second time changes nothing.
pub(crate) fn start(settings: &LogSettings) -> Result<(), AuditFileError> {
    let pretty = match settings.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let audit_file = settings.audit_file.as_deref().map(open).transpose()?;
    let subscriber = subscriber(settings.filter.clone(), pretty, std::io::stderr, audit_file);
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(())
}

/// Opens the file of the audit log. What is in it stays; each line is added at the end, wherever that is by then.
fn open(path: &Path) -> Result<File, AuditFileError> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| AuditFileError { path: path.to_owned(), source })
}

fn subscriber(
    filter: Targets,
    pretty: bool,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
    audit_file: Option<File>,
) -> impl Subscriber + Send + Sync {
    let log = filter.and(filter_fn(is_safe));
    let (log, audit) = match audit_file {
        None => (log.or(audited()).boxed(), None),
        Some(file) => (log.boxed(), Some(output(false, Mutex::new(file)).with_filter(audited()))),
    };
    Registry::default().with(output(pretty, writer).with_filter(log)).with(audit)
}

/// The audit log, with the spans in which its events stand: they say which request it was, and whose.
fn audited() -> FilterFn {
    filter_fn(|metadata| {
        let span = metadata.is_span() && is_ours(metadata.target()) && *metadata.level() <= Level::INFO;
        span || metadata.target() == audit::TARGET
    })
}

fn output<S: Subscriber + for<'s> LookupSpan<'s>>(
    pretty: bool,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> Box<dyn Layer<S> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    if pretty {
        layer.with_ansi(std::io::stderr().is_terminal()).boxed()
    } else {
        layer.json().flatten_event(true).with_span_list(false).boxed()
    }
}

/// Whether what is logged there may be logged at all. Below `info`, libraries tell of frames, headers and statements,
/// and thereby of credentials; this service's own crates do not. At `info` they tell of their own inner life.
fn is_safe(metadata: &Metadata<'_>) -> bool {
    // The framework reports every body that breaks off as its own error, without saying which; the relay logs it itself.
    let relayed = metadata.target().starts_with("actix_http::h1::dispatcher");
    is_ours(metadata.target()) || (*metadata.level() <= Level::WARN && !relayed)
}

fn is_ours(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    name == "connectors" || name.starts_with("connectors_")
}

/// Logs a panic as one event. A text that was put together at run time may hold anything, so only texts that stand in
/// the source as they are get out.
fn log_panic(info: &PanicHookInfo<'_>) {
    let text = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(withheld)");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(place, text, thread = thread.name().unwrap_or_default(), "a thread panicked");
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn logged(filter: &str, pretty: bool, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = subscriber(filter.parse().unwrap(), pretty, move || writer.clone(), None);
        tracing::subscriber::with_default(subscriber, log);
        kept.text()
    }

    #[test]
    fn the_audit_log_stands_in_the_log_whatever_the_filter_says() {
        for filter in ["off", "error", "audit=off"] {
            let text = logged(filter, false, || {
                let span = tracing::info_span!(target: "connectors_api::observe", "request", id = "r-1");
                span.in_scope(|| {
                    tracing::info!(target: audit::TARGET, event = "login", outcome = "done");
                    tracing::info!(target: "connectors", "else");
                });
            });
            assert_eq!(text.lines().count(), 1, "{filter}: {text}");
            let event: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&event["event"], &event["span"]["id"]), (&"login".into(), &"r-1".into()), "{filter}: {text}");
        }
    }

    #[test]
    fn the_audit_log_may_have_a_file_of_its_own_which_is_only_added_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        std::fs::write(&path, "before\n").unwrap();
        let kept = Kept::default();
        let writer = kept.clone();
        let file = open(&path).unwrap();
        let subscriber = subscriber("info".parse().unwrap(), false, move || writer.clone(), Some(file));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(target: "connectors_api::observe", "request", id = "r-1");
            let _entered = span.enter();
            tracing::info!(target: audit::TARGET, event = "login");
            tracing::info!(target: "connectors", "else");
        });
        let audit = std::fs::read_to_string(&path).unwrap();
        assert_eq!(audit.lines().count(), 2, "{audit}");
        assert!(audit.starts_with("before\n") && audit.contains("\"login\"") && audit.contains("r-1"), "{audit}");
        assert_eq!((kept.text().lines().count(), kept.text().contains("login")), (1, false), "{}", kept.text());
        let error = open(directory.path()).unwrap_err().to_string();
        assert!(error.starts_with("log.audit_file: "), "{error}");
    }

    #[test]
    fn libraries_log_warnings_at_most() {
        let log = || {
            tracing::trace!(target: "connectors_mcp::relay", "ours");
            tracing::trace!(target: "h2::codec", "frame");
            tracing::debug!(target: "connectorsx", "other");
            tracing::info!(target: "actix_server", "accepting");
            tracing::warn!(target: "actix_server", "full");
        };
        let everything = logged("trace", true, log);
        assert!(everything.contains("ours") && everything.contains("full"), "{everything}");
        assert!(
            !everything.contains("accepting") && !everything.contains("frame") && !everything.contains("other"),
            "{everything}"
        );
        assert!(!logged("h2=trace", true, log).contains("frame"));
    }

    #[test]
    fn json_is_an_object_a_line() {
        let text = logged("info", false, || tracing::info!(target: "connectors", connector = 7, "two\nlines"));
        assert_eq!(text.lines().count(), 1, "{text}");
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&event["message"], &event["connector"]), (&"two\nlines".into(), &7.into()));
    }

    #[test]
    fn a_panic_is_one_line_without_what_was_formatted_into_it() {
        let secret = "hunter2";
        let text = logged("info", true, || {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(log_panic));
            let formatted = std::panic::catch_unwind(|| panic!("with {secret}"));
            let fixed = std::panic::catch_unwind(|| panic!("a text of the source"));
            std::panic::set_hook(before);
            assert!(formatted.is_err() && fixed.is_err());
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("(withheld)") && text.contains("a text of the source"), "{text}");
        assert!(text.contains("telemetry.rs") && !text.contains(secret), "{text}");
    }
}
