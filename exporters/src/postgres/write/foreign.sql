-- The first entry that stands here with another hash than ours has: $1 chains, $2 sequences, $3 previous hashes, $4 hashes.
SELECT min(f.sequence)
FROM (
    SELECT l.sequence
    FROM unnest($1::text[], $2::bigint[], $4::bytea[]) AS e (chain, sequence, hash)
    JOIN ledger l ON l.chain = e.chain AND l.sequence = e.sequence
    WHERE l.hash <> e.hash
    UNION ALL
    SELECT l.sequence
    FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS e (chain, sequence, previous)
    JOIN ledger l ON l.chain = e.chain AND l.sequence = e.sequence - 1
    WHERE l.hash <> e.previous
) AS f
