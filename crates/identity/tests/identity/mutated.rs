//! Any change of a good token makes it a bad one.

use connectors_application::ports::{AuthenticateError, Authenticator as _};
use connectors_domain::Secret;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{World, encoded, warm};

/// How a token is changed.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, char),
    Insert(Index, String),
    Cut(Index, Index),
    Double(Index, Index),
    /// Changes a byte of what a part holds, and encodes it again.
    Flip(Index, Index, u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    let character = || {
        let written = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";
        prop_oneof![proptest::sample::select(written.chars().collect::<Vec<_>>()), any::<char>()]
    };
    let text = proptest::collection::vec(character(), 1..8).prop_map(String::from_iter);
    prop_oneof![
        (place(), character()).prop_map(|(at, char)| Mutation::Replace(at, char)),
        (place(), text).prop_map(|(at, text)| Mutation::Insert(at, text)),
        (place(), place()).prop_map(|(from, to)| Mutation::Cut(from, to)),
        (place(), place()).prop_map(|(from, to)| Mutation::Double(from, to)),
        (place(), place(), 1..=u8::MAX).prop_map(|(part, at, bits)| Mutation::Flip(part, at, bits)),
    ]
}

impl Mutation {
    fn of(&self, token: &str) -> String {
        let ordered = |one: &Index, other: &Index| {
            let (one, other) = (one.index(token.len()), other.index(token.len()));
            (one.min(other), one.max(other))
        };
        match self {
            Self::Replace(at, char) => {
                let at = at.index(token.len());
                format!("{}{char}{}", &token[..at], &token[at + 1..])
            }
            Self::Insert(at, text) => {
                let at = at.index(token.len() + 1);
                format!("{}{text}{}", &token[..at], &token[at..])
            }
            Self::Cut(from, to) => {
                let (from, to) = ordered(from, to);
                format!("{}{}", &token[..from], &token[to..])
            }
            Self::Double(from, to) => {
                let (from, to) = ordered(from, to);
                format!("{}{}", &token[..to], &token[from..])
            }
            Self::Flip(part, at, bits) => {
                let mut parts: Vec<_> = token.split('.').map(decoded).collect();
                let part = &mut parts[part.index(3)];
                let at = at.index(part.len());
                part[at] ^= bits;
                parts.iter().map(encoded).collect::<Vec<_>>().join(".")
            }
        }
    }
}

fn decoded(part: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()
}

fn outcome(world: &World, token: &str) -> Option<AuthenticateError> {
    let outcome = world.authenticator.authenticate(&Secret::new(token)).now_or_never();
    match outcome {
        Some(outcome) => outcome.err(),
        None => panic!("within the cool-down nothing is waited for"),
    }
}

#[tokio::test]
async fn any_change_of_a_good_token_is_refused() {
    let world = warm().await;
    let own = world.provider.keys();
    for key in own {
        let token = world.token_by(&key);
        assert_eq!(outcome(&world, &token), None);
        let mut runner = TestRunner::new(Config { cases: 512, failure_persistence: None, ..Config::default() });
        runner
            .run(&mutation(), |mutation| {
                let mutated = mutation.of(&token);
                prop_assume!(mutated != token);
                let outcome = outcome(&world, &mutated);
                prop_assert!(matches!(outcome, Some(AuthenticateError::Invalid(_))), "{mutated}: {outcome:?}");
                Ok(())
            })
            .unwrap();
    }
    assert_eq!(world.key_fetches(), 1);
}

#[tokio::test]
async fn no_text_makes_it_fall_over() {
    let world = warm().await;
    let mut runner = TestRunner::new(Config { cases: 2_048, failure_persistence: None, ..Config::default() });
    let part = || prop_oneof![".*", "\\{\"(alg|kid|typ|iss|sub|aud|exp)\":.{0,20}\\}", "[\\[\\]{}\",:0-9eE.-]{0,40}"];
    let texts = prop_oneof![
        any::<String>(),
        (part(), part(), part()).prop_map(|(header, claims, signature)| {
            format!("{}.{}.{}", encoded(header), encoded(claims), encoded(signature))
        }),
    ];
    runner
        .run(&texts, |text| {
            let outcome = outcome(&world, &text);
            prop_assert!(matches!(outcome, Some(AuthenticateError::Invalid(_))), "{text}: {outcome:?}");
            Ok(())
        })
        .unwrap();
}
