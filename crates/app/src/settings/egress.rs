//! Section `egress`: what the service may reach.

use std::path::PathBuf;
use std::time::Duration;

use connectors_egress::AllowRule;

use super::error::SettingsError;
use super::table;
use super::values::Values;

/// What the service may reach.
#[derive(Debug, Clone)]
pub struct EgressSettings {
    /// What may be reached although it is not public.
    pub allow: Vec<AllowRule>,
    /// Whether that may hold for link-local addresses and metadata services.
    pub allow_link_local: bool,
    /// Certificate authorities to trust beside those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// Name look-up, TCP and TLS.
    pub connect_timeout: Duration,
    /// Size of the header of an answer, in bytes.
    pub header_limit: u32,
    /// Name look-ups under way at once.
    pub lookups: usize,
    /// Unused connections kept for each server.
    pub idle_connections: usize,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
}

impl EgressSettings {
    pub(super) fn take(values: &mut Values) -> Result<Self, SettingsError> {
        Ok(Self {
            allow: values.required_list(&table::EGRESS_ALLOW)?.parse_each(|entry| {
                // The rule's own error quotes the entry, in which somebody may have left a password.
                let rule = entry.as_str().and_then(|text| text.parse().ok());
                rule.ok_or_else(|| "it is none of these".to_owned())
            })?,
            allow_link_local: values.switch(&table::EGRESS_ALLOW_LINK_LOCAL)?,
            ca_file: match values.text(&table::EGRESS_CA_FILE)? {
                Some(taken) => Some(taken.read(|text| (!text.is_empty()).then(|| PathBuf::from(text)))?),
                None => None,
            },
            connect_timeout: values.seconds(&table::EGRESS_CONNECT_TIMEOUT)?,
            header_limit: values.count(&table::EGRESS_HEADER_LIMIT)?,
            lookups: values.count(&table::EGRESS_LOOKUPS)?,
            idle_connections: values.count(&table::EGRESS_IDLE_CONNECTIONS)?,
            idle_timeout: values.seconds(&table::EGRESS_IDLE_TIMEOUT)?,
        })
    }
}
