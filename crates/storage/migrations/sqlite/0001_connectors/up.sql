-- The owners of connectors. Inserts of one owner's connectors take turns on the owner's row.
CREATE TABLE owners (
    id TEXT NOT NULL PRIMARY KEY
) STRICT;

-- The keys that values were sealed with, each with a known text sealed under it: whoever opens the database with another
-- key of that id is told so, before anything is written with it.
CREATE TABLE sealing_keys (
    id TEXT NOT NULL PRIMARY KEY,
    canary BLOB NOT NULL
) STRICT;

-- A row is one connector. Columns whose name begins with `sealed_` hold secrets, sealed; no other column holds any.
CREATE TABLE connectors (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL REFERENCES owners (id),
    url TEXT NOT NULL,
    -- The form of the URL that all its spellings share.
    url_key TEXT NOT NULL,
    client_id TEXT,
    sealed_client_secret BLOB,
    -- JSON: an object of strings.
    metadata TEXT,
    -- What is stored: created, connecting, connected or disconnected.
    state TEXT NOT NULL,
    -- What clients see, for the filter of the list.
    client_state TEXT NOT NULL,
    -- When what is under way has failed: a probe, an authorization, or the offer of a wider consent.
    deadline INTEGER,
    -- SHA-256 of the OAuth state, by which a callback finds its attempt.
    attempt_state_hash BLOB,
    -- The authorization that waits for the user, be it the first (connecting) or a wider one (connected).
    sealed_attempt BLOB,
    -- The grant in use (connected), or one that may still be good (disconnected, or connecting after that).
    sealed_grant BLOB,
    -- Copies out of the sealed grant, for work that is looked for by time.
    grant_expires_at INTEGER,
    grant_generation INTEGER,
    -- JSON: what the probe learned of the server.
    server TEXT,
    -- Why it is disconnected, or was before the connect that is under way.
    disconnect_code TEXT,
    disconnect_reason TEXT,
    -- Counts changes; a change is stored only over the revision from which it was made.
    revision INTEGER NOT NULL,
    -- Times are microseconds since 1970, here and above.
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX connectors_by_server ON connectors (owner, url_key);
CREATE INDEX connectors_by_owner ON connectors (owner, id);
CREATE INDEX connectors_by_state ON connectors (owner, client_state, id);
CREATE UNIQUE INDEX connectors_by_attempt ON connectors (attempt_state_hash);
