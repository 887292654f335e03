-- $1 chains, $2 sequences of adjusted thresholds.
INSERT INTO model_update (
    id, update_id, version, update_type, state, req_id, measure, level, old_value, new_value, unit, reason, approved_by,
    approved_at, effective_date, model_hash, void_because, at, chain, sequence
)
SELECT DISTINCT ON (l.content ->> 'id')
    (l.content ->> 'id')::uuid,
    l.content ->> 'update_id',
    (l.content ->> 'version')::integer,
    'threshold_adjustment',
    l.content ->> 'change',
    l.content ->> 'req_id',
    l.content ->> 'measure',
    l.content ->> 'level',
    (l.content ->> 'old')::double precision,
    (l.content ->> 'new')::double precision,
    l.content ->> 'unit',
    l.content ->> 'reason',
    l.content ->> 'approved_by',
    (l.content ->> 'approved_at')::timestamptz,
    (l.content ->> 'effective_date')::timestamptz,
    l.content ->> 'model_hash',
    l.content ->> 'void_because',
    (l.content ->> 'at')::timestamptz,
    l.chain,
    l.sequence
FROM unnest($1::text[], $2::bigint[]) AS e (chain, sequence)
JOIN ledger l ON l.chain = e.chain AND l.sequence = e.sequence
ORDER BY l.content ->> 'id', (l.content ->> 'version')::integer DESC
ON CONFLICT (id) DO UPDATE SET
    version = excluded.version,
    state = excluded.state,
    model_hash = excluded.model_hash,
    void_because = excluded.void_because,
    at = excluded.at,
    chain = excluded.chain,
    sequence = excluded.sequence
WHERE model_update.version < excluded.version
