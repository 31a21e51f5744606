-- Wallet transactions (billing spec 7.4): what went out came out of something that was there, and nothing goes out twice.
WITH drawn AS (
    SELECT inbound_id, sum(amount_cents) AS amount_cents, min(amount_cents) AS least_cents
    FROM wallet_consumptions
    WHERE organization_id = :organization_id OR :organization_id IS NULL
    GROUP BY inbound_id
),
funded AS (
    SELECT
        outbound_id,
        sum(wallet_consumptions.amount_cents) AS amount_cents,
        count(*) FILTER (WHERE inbound.wallet_id <> outbound.wallet_id) AS foreign_sources
    FROM wallet_consumptions
    JOIN wallet_transactions AS inbound ON inbound.id = wallet_consumptions.inbound_id
    JOIN wallet_transactions AS outbound ON outbound.id = wallet_consumptions.outbound_id
    WHERE wallet_consumptions.organization_id = :organization_id OR :organization_id IS NULL
    GROUP BY outbound_id
)
SELECT
    wallets.customer_id,
    'wallet transaction' AS object,
    moved.id AS object_id,
    entry.rule,
    entry.expected,
    entry.found,
    0::numeric AS within
FROM wallet_transactions AS moved
JOIN wallets ON wallets.id = moved.wallet_id
LEFT JOIN drawn ON drawn.inbound_id = moved.id
LEFT JOIN funded ON funded.outbound_id = moved.id
CROSS JOIN LATERAL (
    SELECT
        coalesce(drawn.amount_cents, 0) AS drawn_cents,
        CASE WHEN moved.transaction_type = 'inbound' AND moved.status = 'settled' THEN moved.amount_cents ELSE 0 END
        AS in_cents,
        CASE moved.transaction_type WHEN 'outbound' THEN moved.amount_cents ELSE 0 END AS out_cents
) AS sides
CROSS JOIN LATERAL (
    VALUES
    ('left of it', in_cents - drawn_cents, coalesce(remaining_amount_cents, 0)),
    ('least left of it', 0, least(remaining_amount_cents, drawn.least_cents, moved.amount_cents, 0)),
    ('most gone out of it', least(drawn_cents, in_cents), drawn_cents),
    ('what it came out of', out_cents, coalesce(funded.amount_cents, 0)),
    ('came out of other wallets', 0, coalesce(foreign_sources, 0)),
    ('went out and settled', (out_cents > 0)::int, (out_cents > 0 AND moved.status = 'settled')::int)
) AS entry (rule, expected, found)
WHERE moved.organization_id = :organization_id OR :organization_id IS NULL
