-- What is indexed is collated by its bytes: ids have the same order as in SQLite and in memory, and no index depends on a
-- version of the C library.

-- The owners of connectors. Inserts of one owner's connectors take turns on the owner's row.
CREATE TABLE owners (
    id TEXT COLLATE "C" PRIMARY KEY
);

-- The keys that values were sealed with, each with a known text sealed under it: whoever opens the database with another
-- key of that id is told so, before anything is written with it.
CREATE TABLE sealing_keys (
    id TEXT COLLATE "C" PRIMARY KEY,
    canary BYTEA NOT NULL
);

-- A row is one connector. Columns whose name begins with `sealed_` hold secrets, sealed; no other column holds any.
CREATE TABLE connectors (
    id TEXT COLLATE "C" PRIMARY KEY,
    owner TEXT COLLATE "C" NOT NULL REFERENCES owners (id),
    url TEXT NOT NULL,
    -- The form of the URL that all its spellings share.
    url_key TEXT COLLATE "C" NOT NULL,
    client_id TEXT,
    sealed_client_secret BYTEA,
    -- JSON: an object of strings.
    metadata TEXT,
    -- What is stored: created, connecting, connected or disconnected.
    state TEXT NOT NULL,
    -- What clients see, for the filter of the list.
    client_state TEXT COLLATE "C" NOT NULL,
    -- When what is under way has failed: a probe, an authorization, or the offer of a wider consent.
    deadline BIGINT,
    -- SHA-256 of the OAuth state, by which a callback finds its attempt.
    attempt_state_hash BYTEA,
    -- The authorization that waits for the user, be it the first (connecting) or a wider one (connected).
    sealed_attempt BYTEA,
    -- The grant in use (connected), or one that may still be good (disconnected, or connecting after that).
    sealed_grant BYTEA,
    -- Copies out of the sealed grant, for work that is looked for by time.
    grant_expires_at BIGINT,
    grant_generation BIGINT,
    -- JSON: what the probe learned of the server.
    server TEXT,
    -- Why it is disconnected, or was before the connect that is under way.
    disconnect_code TEXT,
    disconnect_reason TEXT,
    -- Counts changes; a change is stored only over the revision from which it was made.
    revision BIGINT NOT NULL,
    -- Times are microseconds since 1970, here and above.
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX connectors_by_server ON connectors (owner, url_key);
CREATE INDEX connectors_by_owner ON connectors (owner, id);
CREATE INDEX connectors_by_state ON connectors (owner, client_state, id);
CREATE UNIQUE INDEX connectors_by_attempt ON connectors (attempt_state_hash);
