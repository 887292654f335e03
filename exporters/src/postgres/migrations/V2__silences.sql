-- Who silenced what, as it is after its last step.

CREATE TABLE silence (
    id uuid PRIMARY KEY,
    version integer NOT NULL,
    matchers text[] NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    author text NOT NULL,
    comment text NOT NULL,
    is_expired boolean NOT NULL,
    expired_by text,
    at timestamptz NOT NULL,
    chain text NOT NULL,
    sequence bigint NOT NULL
);
CREATE INDEX silence_ends ON silence (ends_at);
