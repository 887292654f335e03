-- $1 chains, $2 sequences of deviations.
INSERT INTO deviation_transition
    (uid, version, transition, status, severity, at, current_value, reason, chain, sequence)
SELECT
    (l.content ->> 'uid')::uuid,
    (l.content ->> 'version')::integer,
    l.content ->> 'transition',
    l.content ->> 'status',
    l.content ->> 'severity',
    (l.content ->> 'at')::timestamptz,
    (l.content ->> 'current_value')::double precision,
    l.content ->> 'reason',
    l.chain,
    l.sequence
FROM unnest($1::text[], $2::bigint[]) AS e (chain, sequence)
JOIN ledger l ON l.chain = e.chain AND l.sequence = e.sequence
ORDER BY l.chain, l.sequence
ON CONFLICT (uid, version) DO NOTHING
