//! The tables, in column types that both databases have: texts, 64-bit integers and bytes. Times are microseconds since
//! 1970. The migrations make them; what each column is for stands there.

diesel::table! {
    connectors (id) {
        id -> Text,
        owner -> Text,
        url -> Text,
        url_key -> Text,
        client_id -> Nullable<Text>,
        client_issuer -> Nullable<Text>,
        sealed_client_secret -> Nullable<Binary>,
        metadata -> Nullable<Text>,
        state -> Text,
        client_state -> Text,
        deadline -> Nullable<BigInt>,
        attempt_state_hash -> Nullable<Binary>,
        sealed_attempt -> Nullable<Binary>,
        sealed_grant -> Nullable<Binary>,
        grant_expires_at -> Nullable<BigInt>,
        grant_generation -> Nullable<BigInt>,
        server -> Nullable<Text>,
        disconnect_code -> Nullable<Text>,
        disconnect_reason -> Nullable<Text>,
        revision -> BigInt,
        created_at -> BigInt,
        updated_at -> BigInt,
        due_at -> Nullable<BigInt>,
        due_failures -> BigInt,
        connected_since -> Nullable<BigInt>,
        renewal_holder -> Nullable<Text>,
        renewal_until -> Nullable<BigInt>,
        renewal_marked -> Nullable<BigInt>,
        renewal_interrupted -> BigInt,
        seal_key -> Nullable<Text>,
        noted_revision -> Nullable<BigInt>,
        account -> Nullable<Text>,
    }
}

diesel::table! {
    owners (id) {
        id -> Text,
    }
}

diesel::table! {
    sealing_keys (id) {
        id -> Text,
        canary -> Binary,
    }
}

diesel::table! {
    registrations (issuer, redirect_uri) {
        issuer -> Text,
        redirect_uri -> Text,
        reserved_until -> Nullable<BigInt>,
        client_id -> Nullable<Text>,
        sealed_client -> Nullable<Binary>,
        seal_key -> Nullable<Text>,
    }
}

diesel::table! {
    revocations (connector, generation) {
        connector -> Text,
        generation -> BigInt,
        owner -> Text,
        sealed_grant -> Binary,
        seal_key -> Text,
        failures -> BigInt,
        due_at -> BigInt,
    }
}

diesel::table! {
    api_tokens (id) {
        id -> Text,
        hash -> Binary,
        label -> Text,
        owner -> Text,
        account -> Text,
        permissions -> Text,
        created_at -> BigInt,
        expires_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    /// Diesel's own: the migrations that the database has.
    #[sql_name = "__diesel_schema_migrations"]
    migrations (version) {
        version -> Text,
    }
}

diesel::define_sql_function! {
    /// Bytes of a value, counted from one; of the same name and meaning in both databases.
    fn substr(value: diesel::sql_types::Nullable<diesel::sql_types::Binary>, from: diesel::sql_types::Integer, count: diesel::sql_types::Integer) -> diesel::sql_types::Nullable<diesel::sql_types::Binary>;
}
