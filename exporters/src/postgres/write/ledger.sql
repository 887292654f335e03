-- $1 chains, $2 sequences, $3 times, $4 causes, $5 kinds, $6 bodies, $7 previous hashes, $8 hashes.
INSERT INTO ledger (chain, sequence, time, cause, kind, body, previous, hash)
SELECT e.chain, e.sequence, e.time::timestamptz, e.cause, e.kind, e.body, e.previous, e.hash
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::bytea[], $8::bytea[])
    AS e (chain, sequence, time, cause, kind, body, previous, hash)
ORDER BY e.chain, e.sequence
ON CONFLICT (chain, sequence) DO NOTHING
