-- The tables of homeostat, in the schema that is first in the search path. Everything but `ledger` is a projection of it.

-- The hash chain. `body` is the canonical text that the hash covers; `content` is the same for queries.

-- U+0000 is legal in JSON and impossible in jsonb: it becomes U+FFFD. A backslash that is itself escaped begins no escape.
CREATE FUNCTION ledger_content(body text) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN strpos(body, '\u0000') > 0
        THEN regexp_replace(body, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::jsonb
        ELSE body::jsonb
    END;

CREATE FUNCTION ledger_hash(previous bytea, chain text, sequence bigint, kind text, body text) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN sha256(
        previous || convert_to(chain, 'UTF8') || int8send(sequence) || convert_to(kind, 'UTF8')
        || sha256(convert_to(body, 'UTF8'))
    );

CREATE TABLE ledger (
    chain text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    time timestamptz NOT NULL,
    cause bigint NOT NULL,
    kind text NOT NULL,
    body text NOT NULL,
    content jsonb NOT NULL GENERATED ALWAYS AS (ledger_content(body)) STORED,
    previous bytea NOT NULL CHECK (octet_length(previous) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (chain, sequence)
);
CREATE INDEX ledger_kind_time ON ledger (kind, time);

CREATE FUNCTION ledger_refuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % is refused', TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'drop the whole schema to begin anew';
END
$$;
CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuses();
ALTER TABLE ledger ENABLE ALWAYS TRIGGER ledger_append_only;

-- What is wrong with a chain; no row when it is whole.
CREATE FUNCTION ledger_breaks(of_chain text DEFAULT 'local') RETURNS TABLE (sequence bigint, problem text)
    LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    WITH step AS (
        SELECT l.sequence, l.previous, l.hash,
            ledger_hash(l.previous, l.chain, l.sequence, l.kind, l.body) AS computed,
            lag(l.sequence, 1, 0::bigint) OVER w AS before,
            lag(l.hash, 1, decode(repeat('00', 32), 'hex')) OVER w AS expected
        FROM ledger l
        WHERE l.chain = of_chain
        WINDOW w AS (ORDER BY l.sequence)
    )
    SELECT sequence, 'its hash is not that of its content' FROM step WHERE hash <> computed
    UNION ALL
    SELECT sequence, 'it does not follow the entry before' FROM step
        WHERE sequence = before + 1 AND previous <> expected
    UNION ALL
    SELECT sequence, format('the entries from %s to %s before it are missing', before + 1, sequence - 1) FROM step
        WHERE sequence <> before + 1
    ORDER BY 1, 2
$$;

-- Deviations: each as it is now, and every step of its life.

CREATE TABLE deviation (
    uid uuid PRIMARY KEY,
    deviation_id text NOT NULL,
    fingerprint text NOT NULL,
    status text NOT NULL
        CHECK (status IN ('open', 'acknowledged', 'recovering', 'resolved', 'verified', 'expired')),
    version integer NOT NULL CHECK (version > 0),
    req_id text NOT NULL,
    also_req_ids text[] NOT NULL,
    title text,
    deviation_type text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    metric_name text NOT NULL,
    unit text NOT NULL,
    direction text NOT NULL,
    current_value double precision,
    worst_value double precision,
    threshold_value double precision,
    threshold_level text,
    baseline_value double precision,
    deviation_percentage double precision,
    rule_id text NOT NULL,
    model_hash text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    samples bigint NOT NULL,
    started_at timestamptz NOT NULL,
    detected_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    resolved_at timestamptz,
    verified_at timestamptz,
    duration_seconds double precision NOT NULL,
    reason text NOT NULL,
    spec_node_id text,
    service text,
    environment text,
    labels jsonb NOT NULL,
    trace_ids text[] NOT NULL,
    actions text[] NOT NULL,
    intent_id text,
    previous_uid uuid,
    content jsonb NOT NULL,
    chain text NOT NULL,
    sequence bigint NOT NULL
);
-- One live episode per fingerprint.
CREATE UNIQUE INDEX deviation_live ON deviation (fingerprint)
    WHERE status IN ('open', 'acknowledged', 'recovering');
CREATE INDEX deviation_req ON deviation (req_id, detected_at);
CREATE INDEX deviation_detected ON deviation (detected_at);

CREATE TABLE deviation_transition (
    uid uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    transition text NOT NULL,
    status text NOT NULL,
    severity text NOT NULL,
    at timestamptz NOT NULL,
    current_value double precision,
    reason text NOT NULL,
    chain text NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (uid, version)
);
CREATE INDEX deviation_transition_at ON deviation_transition (at);

-- Behaviors, partitioned by the month of their window (UTC); what has no partition goes to the default one.

CREATE TABLE behavior_summary (
    uid uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    spec_node_id text NOT NULL,
    context text NOT NULL,
    flow text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    count bigint NOT NULL,
    errors bigint NOT NULL,
    measures jsonb NOT NULL,
    req_ids text[] NOT NULL,
    trace_ids text[] NOT NULL,
    confidence double precision NOT NULL,
    chain text NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (uid, window_start)
) PARTITION BY RANGE (window_start);
CREATE INDEX behavior_summary_node ON behavior_summary (spec_node_id, window_start);
CREATE TABLE behavior_summary_default PARTITION OF behavior_summary DEFAULT;

-- Makes the partition of a month when it is not there. Runs as the owner, so that a writer needs no right to make tables.
CREATE FUNCTION behavior_partition(month date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    first date := date_trunc('month', month)::date;
    name text := 'behavior_summary_' || to_char(first, 'YYYY_MM');
    lower timestamptz := first::timestamp AT TIME ZONE 'UTC';
    upper timestamptz := (first + interval '1 month')::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('homeostat behavior_partition ' || current_schema(), 0));
    IF to_regclass(name) IS NOT NULL
        OR EXISTS (SELECT FROM behavior_summary_default WHERE window_start >= lower AND window_start < upper)
    THEN
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I PARTITION OF behavior_summary FOR VALUES FROM (%L) TO (%L)', name, lower, upper
    );
END
$$;

REVOKE ALL ON FUNCTION behavior_partition(date) FROM PUBLIC;

-- The models that held, each from its instant on.

CREATE TABLE model_version (
    chain text NOT NULL,
    sequence bigint NOT NULL,
    model_hash text NOT NULL,
    version text NOT NULL,
    at timestamptz NOT NULL,
    previous_hash text,
    requirements jsonb NOT NULL,
    PRIMARY KEY (chain, sequence)
);
CREATE INDEX model_version_hash ON model_version (model_hash);

-- For people.

CREATE VIEW open_deviation AS
    SELECT deviation_id, severity, status, req_id, title, service, environment, metric_name, current_value, unit,
        threshold_value, deviation_percentage, started_at, reason, spec_node_id, uid
    FROM deviation
    WHERE status IN ('open', 'acknowledged', 'recovering')
    ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], severity), started_at, uid;

CREATE VIEW deviation_history AS
    SELECT d.deviation_id, d.req_id, t.at, t.transition, t.status, t.severity, t.current_value, d.unit, t.reason, t.uid,
        t.version
    FROM deviation_transition t
    JOIN deviation d USING (uid)
    ORDER BY t.at, t.uid, t.version;
