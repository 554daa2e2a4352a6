//! The contract of [`Sealer`].
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests fail by panics")]

use connectors_application::ports::{Seal, SealPurpose, Sealer};
use connectors_domain::Secret;

/// Makes a test of each part of the contract. `$make` names a function that returns a [`Sealer`].
#[macro_export]
macro_rules! sealer_contract {
    ($make:path) => {
        $crate::sealer_contract!(@tests $make:
            what_is_sealed_opens_with_an_equal_seal_only,
            what_is_sealed_fits_a_header_a_cookie_and_a_url,
            what_was_changed_or_made_up_does_not_open,
            equal_texts_do_not_look_equal,
        );
    };
    (@tests $make:path: $($test:ident,)*) => {
        $(
            #[test]
            fn $test() {
                $crate::contract::sealer::$test(&$make());
            }
        )*
    };
}

/// Not for another purpose, nor where it is bound to something else, to more, to less, in another order or cut elsewhere.
pub fn what_is_sealed_opens_with_an_equal_seal_only(subject: &impl Sealer) {
    let bindings: [&[&str]; 9] = [
        &["ab", "c"],
        &["c", "ab"],
        &["a", "bc"],
        &["abc"],
        &["ab", "c", ""],
        &["", "ab", "c"],
        &["ab"],
        &[],
        &["ab\0c"],
    ];
    let purposes = [SealPurpose::McpSession, SealPurpose::ConsoleSession, SealPurpose::Login];
    let seals = purposes.iter().flat_map(|purpose| bindings.iter().map(|bound_to| seal(*purpose, bound_to)));
    let seals: Vec<_> = seals.collect();
    for sealed_for in &seals {
        let sealed = subject.seal(sealed_for, "text").unwrap();
        for seal in &seals {
            let opened = subject.open(seal, &sealed);
            let expected = (seal == sealed_for).then_some("text");
            assert_eq!(opened.as_ref().map(Secret::expose), expected, "{sealed_for:?} {seal:?}");
        }
    }
}

/// Whatever the text, which comes back as it was.
pub fn what_is_sealed_fits_a_header_a_cookie_and_a_url(subject: &impl Sealer) {
    let seal = seal(SealPurpose::Login, &["a b", "é\n"]);
    for text in ["", "text", "a; b\r\nSet-Cookie: c", "🦀\0", &"x".repeat(4_096)] {
        let sealed = subject.seal(&seal, text).unwrap();
        assert!(sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')), "{sealed}");
        assert_eq!(subject.open(&seal, &sealed).unwrap().expose(), text);
    }
}

/// In any character, at either end, or as a whole.
pub fn what_was_changed_or_made_up_does_not_open(subject: &impl Sealer) {
    let seal = seal(SealPurpose::McpSession, &["owner"]);
    let sealed = subject.seal(&seal, "text").unwrap();
    for index in 0..sealed.len() {
        for char in ['A', 'B', '-', '=', ' ', 'é'] {
            let changed = format!("{}{char}{}", &sealed[..index], &sealed[index + 1..]);
            assert!(changed == sealed || subject.open(&seal, &changed).is_none(), "{char} for character {index}");
        }
        assert!(subject.open(&seal, &sealed[..index]).is_none(), "{index} characters of it");
    }
    for text in [format!("{sealed}="), format!("{sealed}A"), format!(" {sealed}"), "🦀".into(), "A".repeat(1 << 20)] {
        assert!(subject.open(&seal, &text).is_none());
    }
}

/// Nobody can tell two of one user from two of several.
pub fn equal_texts_do_not_look_equal(subject: &impl Sealer) {
    let seal = seal(SealPurpose::ConsoleSession, &[]);
    assert_ne!(subject.seal(&seal, "text").unwrap(), subject.seal(&seal, "text").unwrap());
}

fn seal(purpose: SealPurpose, bound_to: &[&str]) -> Seal {
    Seal { purpose, bound_to: bound_to.iter().map(|part| (*part).to_owned()).collect() }
}
