-- What people call the owner; unknown of connectors that older replicas make.
ALTER TABLE connectors ADD COLUMN account TEXT;

-- The list of all owners' connectors in one state.
CREATE INDEX connectors_by_client_state ON connectors (client_state, id);

-- Bearer tokens that the operator made. Their owners need not have connectors, nor a row among the owners.
CREATE TABLE api_tokens (
    id TEXT COLLATE "C" PRIMARY KEY,
    -- SHA-256 of the whole token, which lies nowhere.
    hash BYTEA NOT NULL,
    label TEXT NOT NULL,
    owner TEXT NOT NULL,
    account TEXT NOT NULL,
    -- A list of scopes, separated by spaces.
    permissions TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- None for a token that does not end.
    expires_at BIGINT
);

CREATE UNIQUE INDEX api_tokens_by_hash ON api_tokens (hash);
