//! Addresses that metadata name.

use connectors_application::ports::{AddressRefused, PrepareError};
use url::Url;

use crate::document::Fetcher;

/// The longest address that is taken over, in bytes.
const MAX_LENGTH: usize = 2048;

/// Why a text is no address that can be used.
#[derive(Debug)]
pub(crate) enum AddressError {
    /// Not an absolute http or https URL without user info and fragment.
    Malformed,
    /// The way out refuses it: plain http to a host that is not listed among the reasons.
    Refused(AddressRefused),
}

impl AddressError {
    /// As the port has it; `text` is what is said of a malformed address.
    pub(crate) fn or_invalid(self, text: &'static str) -> PrepareError {
        match self {
            Self::Malformed => PrepareError::InvalidMetadata(text),
            Self::Refused(refused) => refused.into(),
        }
    }
}

/// Reads an address: https, or http where the way out permits it, with a host, without user info or fragment.
pub(crate) fn address(fetcher: &Fetcher, text: &str) -> Result<Url, AddressError> {
    // The parser strips some of these silently; what is used must be what was written.
    let plain = text.chars().all(|char| !char.is_control() && !char.is_whitespace() && char != '\\');
    if !plain || text.len() > MAX_LENGTH {
        return Err(AddressError::Malformed);
    }
    let url = Url::parse(text).map_err(|_| AddressError::Malformed)?;
    let usable = matches!(url.scheme(), "https" | "http")
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && url.as_str().len() <= MAX_LENGTH;
    if !usable {
        return Err(AddressError::Malformed);
    }
    fetcher.admit(&url).map_err(AddressError::Refused)?;
    Ok(url)
}

/// The address on the origin of `url` with another path, and without a query.
pub(crate) fn on_origin(url: &Url, path: &str) -> Url {
    let mut address = url.clone();
    address.set_path(path);
    address.set_query(None);
    address.set_fragment(None);
    address
}
