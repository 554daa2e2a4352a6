//! The servers that are offered to every user.

use connectors_domain::Presets;

use crate::ConnectorService;

impl ConnectorService {
    /// The presets, with their credentials: it is for the caller to leave those out.
    pub fn presets(&self) -> &Presets {
        &self.config.presets
    }
}
