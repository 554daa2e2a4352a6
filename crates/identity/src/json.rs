//! JSON that a stranger wrote, read member by member.
//!
//! An object is never turned into a tree: what is not asked for is skipped without being built, however deep it goes. A
//! member that is asked for and stands there twice is an error, since two readers could choose differently (RFC 8725,
//! section 2.4).

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A member of an object, unread.
pub(crate) type Member<'a> = Option<&'a RawValue>;

/// The members of an object; `None` where the text is anything else. Without the look at the first character, a list
/// would count as an object whose members have no names.
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    if text.trim_ascii_start().starts_with('{') { serde_json::from_str(text).ok() } else { None }
}

/// Reads a member so that `null` is a value that stands there, and not an absent member.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Member<'de>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The text of a member; `None` also where it is something else.
pub(crate) fn text(member: Member<'_>) -> Option<String> {
    serde_json::from_str(member?.get()).ok()
}

/// The texts of a member; `None` also where it is anything but a list of texts.
pub(crate) fn texts(member: Member<'_>) -> Option<Vec<String>> {
    serde_json::from_str(member?.get()).ok()
}

/// Whether a member is `true`.
pub(crate) fn flag(member: Member<'_>) -> bool {
    member.is_some_and(|value| value.get() == "true")
}
