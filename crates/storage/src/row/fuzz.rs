//! What the fuzz targets do to rows.

use super::{ATTEMPT, Binding, CLIENT_SECRET, GRANT, Row};
use crate::KeyRing;

impl Row {
    /// Writes into a column, as somebody could who has the database. Of a column that is sealed, `sealed_grant` is what lies
    /// there, and `grant` is sealed for it, which takes the keys besides.
    pub(crate) fn overwrite(&mut self, column: &str, value: &str, keys: &KeyRing) {
        let binding = Binding([&self.id, &self.owner, &self.url]);
        let seal = |column| keys.seal(binding.place(column), value.into()).ok();
        let (text, bytes, number) = (Some(value.to_owned()), Some(value.into()), value.parse().ok());
        let content = &mut self.content;
        match column {
            "client_id" => content.client_id = text,
            "client_issuer" => content.client_issuer = text,
            "metadata" => content.metadata = text,
            "state" => value.clone_into(&mut content.state),
            "deadline" => content.deadline = number,
            "attempt_state_hash" => content.attempt_state_hash = bytes,
            "server" => content.server = text,
            "disconnect_code" => content.disconnect_code = text,
            "disconnect_reason" => content.disconnect_reason = text,
            "revision" => content.revision = number.unwrap_or_default(),
            "updated_at" => content.updated_at = number.unwrap_or_default(),
            "due_at" => content.due_at = number,
            "connected_since" => content.connected_since = number,
            "noted_revision" => content.noted_revision = number,
            "client_secret" => content.sealed_client_secret = seal(CLIENT_SECRET),
            "attempt" => content.sealed_attempt = seal(ATTEMPT),
            "grant" => content.sealed_grant = seal(GRANT),
            "sealed_client_secret" => content.sealed_client_secret = bytes,
            "sealed_attempt" => content.sealed_attempt = bytes,
            "sealed_grant" => content.sealed_grant = bytes,
            // The secrets stay bound to the row as it was.
            "id" => value.clone_into(&mut self.id),
            "owner" => value.clone_into(&mut self.owner),
            "url" => value.clone_into(&mut self.url),
            "created_at" => self.created_at = number.unwrap_or_default(),
            _ => {}
        }
    }
}
