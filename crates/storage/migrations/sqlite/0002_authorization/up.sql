-- The issuer at which the client of a connector was used first; it is used at no other.
ALTER TABLE connectors ADD COLUMN client_issuer TEXT;

-- The service as a client of authorization servers at which it has registered itself, shared by all users.
CREATE TABLE registrations (
    issuer TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    -- Until when somebody is at work on it; no registration is there yet.
    reserved_until INTEGER,
    client_id TEXT,
    -- The client with its secret, sealed.
    sealed_client BLOB,
    PRIMARY KEY (issuer, redirect_uri)
) STRICT;
