-- $1 chains, $2 sequences of behaviors. Only the newest version of each.
INSERT INTO behavior_summary AS b (
    uid, version, spec_node_id, context, flow, window_start, window_end, count, errors, measures, req_ids, trace_ids,
    confidence, chain, sequence
)
SELECT
    (n.c ->> 'uid')::uuid,
    (n.c ->> 'version')::integer,
    n.c ->> 'spec_node_id',
    n.c ->> 'context',
    n.c ->> 'flow',
    (n.c ->> 'window_start')::timestamptz,
    (n.c ->> 'window_end')::timestamptz,
    (n.c ->> 'count')::bigint,
    (n.c ->> 'errors')::bigint,
    n.c -> 'measures',
    ARRAY(SELECT jsonb_array_elements_text(n.c -> 'req_ids')),
    ARRAY(SELECT jsonb_array_elements_text(n.c -> 'trace_ids')),
    (n.c ->> 'confidence')::double precision,
    n.chain,
    n.sequence
FROM (
    SELECT DISTINCT ON (c ->> 'uid') c, l.chain, l.sequence
    FROM unnest($1::text[], $2::bigint[]) AS e (chain, sequence)
    JOIN ledger l ON l.chain = e.chain AND l.sequence = e.sequence
    CROSS JOIN LATERAL jsonb_array_elements(l.content -> 'behaviors') AS c
    ORDER BY c ->> 'uid', (c ->> 'version')::integer DESC
) AS n
ORDER BY n.c ->> 'uid'
ON CONFLICT (uid, window_start) DO UPDATE SET
    version = excluded.version,
    spec_node_id = excluded.spec_node_id,
    context = excluded.context,
    flow = excluded.flow,
    window_end = excluded.window_end,
    count = excluded.count,
    errors = excluded.errors,
    measures = excluded.measures,
    req_ids = excluded.req_ids,
    trace_ids = excluded.trace_ids,
    confidence = excluded.confidence,
    chain = excluded.chain,
    sequence = excluded.sequence
WHERE b.version < excluded.version
