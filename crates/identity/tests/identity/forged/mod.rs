//! Tokens that nobody may take, by kind of forgery. Each is wrong in one way and right in all others.

mod algorithms;
mod claims;
mod headers;
mod keys;
mod shapes;

use connectors_application::ports::AuthenticateError;
use connectors_testkit::identity_provider::{IdentityProvider, Key, KeyKind};
use serde_json::{Value, json};

use crate::support::{AUDIENCE, World, authenticator, cold};

/// What the table is made from.
struct Forge {
    rsa: Key,
    p256: Key,
    p384: Key,
    ed25519: Key,
    claims: Value,
    /// Another issuer that is configured.
    other: IdentityProvider,
    /// A server that would hand out a key with which a forgery verifies.
    attacker: IdentityProvider,
}

/// Names, and tokens.
type Table = Vec<(String, String)>;
type Kind = (fn(&Forge) -> Table, &'static [&'static str]);

impl Forge {
    fn header(&self) -> Value {
        json!({ "alg": "RS256", "kid": self.rsa.id(), "typ": "at+jwt" })
    }

    /// Signed by the right key, whatever the header says.
    fn with_header(&self, name: &str, value: impl Into<Value>) -> String {
        let mut header = self.header();
        header[name] = value.into();
        self.rsa.token_of("RS256", header.to_string(), self.claims.to_string())
    }

    fn with_claim(&self, name: &str, value: impl Into<Value>) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value.into();
        self.rsa.token(&self.header(), &claims)
    }

    fn without_claim(&self, name: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        self.rsa.token(&self.header(), &claims)
    }

    /// The claims as text, with this before the first member.
    fn with_text(&self, member: &str) -> String {
        let claims = self.claims.to_string().replacen('{', &format!("{{{member},"), 1);
        self.rsa.token_of("RS256", self.header().to_string(), &claims)
    }

    /// The claims as text, with a number that no `Value` can hold.
    fn with_number(&self, name: &str, number: &str) -> String {
        let mut claims = self.claims.clone();
        claims[name] = json!("NUMBER");
        self.rsa.token_of("RS256", self.header().to_string(), claims.to_string().replace("\"NUMBER\"", number))
    }

    fn good(&self) -> String {
        self.rsa.token(&self.header(), &self.claims)
    }
}

/// Each kind of forgery, with the reasons for which it may be refused: one that is refused for another reason shows nothing
/// about what it is named after.
const KINDS: [Kind; 7] = [
    (
        algorithms::algorithms,
        &[
            "it is not signed",
            "its algorithm is not one of those configured",
            "its signature is wrong",
            "the key that it names is not for its algorithm",
        ],
    ),
    (
        keys::keys,
        &[
            "its signature is wrong",
            "its issuer has no such key",
            "the name of its key is no text",
            "the key that it names is not for its algorithm",
            "its algorithm is not one of those configured",
        ],
    ),
    (
        headers::headers,
        &[
            "its header has an extension",
            "it is of another type",
            "its type is no text",
            "its header is no object, or has a member twice",
            "its algorithm is not one of those configured",
        ],
    ),
    (
        claims::claims,
        &[
            "its issuer is not one of those configured",
            "it names no issuer",
            "it names no subject",
            "its subject is empty or too long",
            "it names no audience",
            "its scopes are no text",
            "it does not say when it ends",
            "it is no access token",
            "its claims are no object, or have a member twice",
        ],
    ),
    (
        claims::times,
        &[
            "it has expired",
            "it is from the future",
            "one of its times is no time",
            "its claims are no object, or have a member twice",
        ],
    ),
    (
        shapes::shapes,
        &[
            "it is no JWT of three parts",
            "it is not signed",
            "it is too long",
            "its signature is not in base64url",
            "its signature is wrong",
            "its header is no UTF-8 in base64url",
            "its header is no object, or has a member twice",
            "its claims are no UTF-8 in base64url",
            "its claims are no object, or have a member twice",
        ],
    ),
    (
        shapes::contents,
        &[
            "its header is no object, or has a member twice",
            "its claims are no UTF-8 in base64url",
            "its claims are no object, or have a member twice",
            "it does not say when it ends",
            "it names no subject",
        ],
    ),
];

#[tokio::test]
async fn no_forged_token_is_taken() {
    let world = cold().await;
    let forge = forge(&world).await;
    keys::publish_bad_keys(&world, &forge);
    let world = World { authenticator: authenticator(&world.clock, &[&world.provider, &forge.other]), ..world };
    world.authenticator.warm().await;
    let good = world.authenticate(&forge.good()).await;
    assert!(good.is_ok(), "the table starts from a good token: {good:?}");

    let mut count = 0;
    for (table, reasons) in KINDS {
        for (name, token) in table(&forge) {
            match world.authenticate(&token).await {
                Err(AuthenticateError::Invalid(reason)) if reasons.contains(&reason) => count += 1,
                outcome => panic!("{name}: {outcome:?}"),
            }
        }
    }
    assert!(count > 200, "{count}");
    assert_eq!(forge.attacker.requests().len(), 0, "nothing in a token leads to a request to anybody else");
    assert!(world.authenticate(&forge.good()).await.is_ok());
}

async fn forge(world: &World) -> Forge {
    let [rsa, p256, p384, ed25519] = world.provider.keys().try_into().unwrap();
    let claims = world.provider.claims(AUDIENCE);
    let stranger = || Key::of_somebody_else(KeyKind::Rsa, "rsa");
    let other = IdentityProvider::builder().key(stranger()).start().await.unwrap();
    let attacker = IdentityProvider::builder().key(stranger()).start().await.unwrap();
    Forge { rsa, p256, p384, ed25519, claims, other, attacker }
}
