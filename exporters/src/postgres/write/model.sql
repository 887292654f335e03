-- $1 chains, $2 sequences of model changes.
INSERT INTO model_version (chain, sequence, model_hash, version, at, previous_hash, requirements)
SELECT
    l.chain,
    l.sequence,
    l.content ->> 'model_hash',
    l.content ->> 'version',
    (l.content ->> 'at')::timestamptz,
    l.content ->> 'previous_hash',
    l.content -> 'requirements'
FROM unnest($1::text[], $2::bigint[]) AS e (chain, sequence)
JOIN ledger l ON l.chain = e.chain AND l.sequence = e.sequence
ON CONFLICT (chain, sequence) DO NOTHING
