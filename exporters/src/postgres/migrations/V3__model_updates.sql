-- Who changed what of the model beside its file, as it is after its last step.

CREATE TABLE model_update (
    id uuid PRIMARY KEY,
    update_id text NOT NULL,
    version integer NOT NULL,
    update_type text NOT NULL,
    state text NOT NULL,
    req_id text NOT NULL,
    measure text NOT NULL,
    level text NOT NULL,
    old_value double precision NOT NULL,
    new_value double precision NOT NULL,
    unit text NOT NULL,
    reason text NOT NULL,
    approved_by text NOT NULL,
    approved_at timestamptz NOT NULL,
    effective_date timestamptz NOT NULL,
    model_hash text NOT NULL,
    void_because text,
    at timestamptz NOT NULL,
    chain text NOT NULL,
    sequence bigint NOT NULL
);
CREATE INDEX model_update_req ON model_update (req_id, effective_date);
