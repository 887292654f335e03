-- $1 chains, $2 sequences of silences.
INSERT INTO silence (id, version, matchers, starts_at, ends_at, author, comment, is_expired, expired_by, at, chain, sequence)
SELECT DISTINCT ON (l.content ->> 'id')
    (l.content ->> 'id')::uuid,
    (l.content ->> 'version')::integer,
    ARRAY(SELECT jsonb_array_elements_text(l.content -> 'matchers')),
    (l.content ->> 'starts_at')::timestamptz,
    (l.content ->> 'ends_at')::timestamptz,
    l.content ->> 'author',
    l.content ->> 'comment',
    l.content ->> 'change' = 'expired',
    l.content ->> 'expired_by',
    (l.content ->> 'at')::timestamptz,
    l.chain,
    l.sequence
FROM unnest($1::text[], $2::bigint[]) AS e (chain, sequence)
JOIN ledger l ON l.chain = e.chain AND l.sequence = e.sequence
ORDER BY l.content ->> 'id', (l.content ->> 'version')::integer DESC
ON CONFLICT (id) DO UPDATE SET
    version = excluded.version,
    ends_at = excluded.ends_at,
    is_expired = excluded.is_expired,
    expired_by = excluded.expired_by,
    at = excluded.at,
    chain = excluded.chain,
    sequence = excluded.sequence
WHERE silence.version < excluded.version
