-- When the service looks after a connector by itself the next time. Rows that know nothing of it yet, also those that an
-- older replica makes, are looked at once.
ALTER TABLE connectors ADD COLUMN due_at BIGINT DEFAULT 0;
-- How often in a row it could not be helped.
ALTER TABLE connectors ADD COLUMN due_failures BIGINT NOT NULL DEFAULT 0;
-- Since which revision it is used with what its user consented to.
ALTER TABLE connectors ADD COLUMN connected_since BIGINT;

-- The lease on renewing the grant: who has it and until when, on the database's own clock. It is on the generation that is
-- marked, and means nothing once the grant is of another.
ALTER TABLE connectors ADD COLUMN renewal_holder TEXT;
ALTER TABLE connectors ADD COLUMN renewal_until BIGINT;
-- The generation whose refresh token is about to be spent, or may have been.
ALTER TABLE connectors ADD COLUMN renewal_marked BIGINT;
-- Whether that generation was marked already when the lease was given last: 0 or 1.
ALTER TABLE connectors ADD COLUMN renewal_interrupted BIGINT NOT NULL DEFAULT 0;

-- The key under which the secrets of the row are sealed; none if it has no secret.
ALTER TABLE connectors ADD COLUMN seal_key TEXT COLLATE "C";
-- The revision at which these columns were written last: where it is another than the row's, an older replica wrote the
-- row, and `connected_since` and `seal_key` speak of what is no longer there.
ALTER TABLE connectors ADD COLUMN noted_revision BIGINT;

CREATE INDEX connectors_by_due ON connectors (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX connectors_by_key ON connectors (seal_key, id) WHERE seal_key IS NOT NULL;
-- Secrets of which it is not noted under which key they are sealed.
CREATE INDEX connectors_by_unknown_key ON connectors (id)
    WHERE (seal_key IS NULL OR noted_revision <> revision)
    AND (sealed_client_secret IS NOT NULL OR sealed_attempt IS NOT NULL OR sealed_grant IS NOT NULL);

-- As above.
ALTER TABLE registrations ADD COLUMN seal_key TEXT COLLATE "C";
CREATE INDEX registrations_by_key ON registrations (seal_key);

-- Grants that were given up and wait for their revocation. They outlive their connectors.
CREATE TABLE revocations (
    connector TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    owner TEXT NOT NULL,
    sealed_grant BYTEA NOT NULL,
    seal_key TEXT COLLATE "C" NOT NULL,
    -- How often it has failed.
    failures BIGINT NOT NULL DEFAULT 0,
    due_at BIGINT NOT NULL,
    PRIMARY KEY (connector, generation)
);

CREATE INDEX revocations_by_due ON revocations (due_at);
CREATE INDEX revocations_by_key ON revocations (seal_key);

-- Tells the other replicas which connector was made, changed or removed, when that is committed. The channel is the
-- table's own: schemas of one database share the names of channels.
CREATE FUNCTION connectors_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('connectors_' || TG_RELID, CASE TG_OP WHEN 'DELETE' THEN OLD.id ELSE NEW.id END);
    RETURN NULL;
END
$$;

-- Leases and due times change without the revision, and are nobody else's business.
CREATE TRIGGER connectors_told AFTER INSERT OR UPDATE OF revision OR DELETE ON connectors
    FOR EACH ROW EXECUTE FUNCTION connectors_tell();
