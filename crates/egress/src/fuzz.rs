//! A door to this crate's decisions, for the fuzz targets. Only a build for fuzzing has it.

use url::Url;

use crate::Policy;
use crate::client::destination;
use crate::gate::{Class, Gate};

/// What [`Egress::admit`](crate::Egress::admit) decides under a policy, without the clients that it takes time to build.
pub fn admits(policy: &Policy, url: &Url) -> bool {
    let Ok((class, host)) = destination(url) else { return false };
    let named = Class::all(policy).contains(&class);
    let class = if named { class } else { Class { port: None, ..class } };
    Gate::new(policy, class).admit(&host).is_ok()
}
