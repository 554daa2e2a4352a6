//! What a refused caller is told, so that the client can get a credential that is good: `WWW-Authenticate` of RFC 6750,
//! section 3, with the metadata of RFC 9728, section 5.1.

use std::fmt::Write as _;

use actix_web::http::header::{self, HeaderValue};
use connectors_application::Denied;
use connectors_domain::Permission;

use crate::links::{Links, Resource};
use crate::problem::{Kind, Problem};

/// What a call demands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Challenge {
    /// What the call is for.
    pub(crate) resource: Resource,
    /// What it takes; `None` where any good credential does.
    pub(crate) permission: Option<Permission>,
}

impl Challenge {
    /// What is told of a caller who is not let in. `presented` says whether a token was there.
    pub(crate) fn denied(self, links: &Links, denied: Denied, presented: bool) -> Problem {
        let problem = Problem::from(denied);
        match denied {
            Denied::Unauthenticated => self.add_to(problem, links, presented.then_some("invalid_token")),
            Denied::Unavailable | Denied::TooManyRequests { .. } => problem,
        }
    }

    /// What is told of a caller whose credential does not allow the call.
    pub(crate) fn insufficient(self, links: &Links) -> Problem {
        let scope = self.permission.map_or("", Permission::as_str);
        let problem = Problem::new(Kind::InsufficientScope, format!("The credential lacks the scope {scope}."));
        self.add_to(problem, links, Some("insufficient_scope"))
    }

    fn add_to(self, problem: Problem, links: &Links, error: Option<&str>) -> Problem {
        let mut text = format!("Bearer resource_metadata=\"{}\"", links.metadata(self.resource));
        let scope = self.permission.map(Permission::as_str);
        for (name, value) in [("scope", scope), ("error", error)] {
            if let Some(value) = value {
                // Writing to a text does not fail.
                let _ = write!(text, ", {name}=\"{value}\"");
            }
        }
        let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Bearer"));
        problem.with_headers(vec![(header::WWW_AUTHENTICATE, value)])
    }
}
