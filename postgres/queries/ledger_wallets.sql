-- Wallets (billing spec 7.1): what they hold is what has gone in and not out again, in money and in credits.
WITH moved AS (
    SELECT
        wallet_id,
        sum(
            CASE transaction_type WHEN 'inbound' THEN amount_cents ELSE -amount_cents END
        ) FILTER (WHERE status = 'settled') AS amount_cents,
        sum(
            CASE transaction_type WHEN 'inbound' THEN credit_amount ELSE -credit_amount END
        ) FILTER (WHERE status = 'settled') AS credits,
        sum(credit_amount) FILTER (WHERE transaction_type = 'outbound') AS consumed,
        sum(remaining_amount_cents) AS left_cents
    FROM wallet_transactions
    WHERE organization_id = :organization_id OR :organization_id IS NULL
    GROUP BY wallet_id
)
SELECT
    wallets.customer_id,
    'wallet' AS object,
    wallets.id AS object_id,
    entry.rule,
    entry.expected,
    entry.found,
    0::numeric AS within
FROM wallets
LEFT JOIN moved ON moved.wallet_id = wallets.id
CROSS JOIN LATERAL (
    VALUES
    ('balance', coalesce(moved.amount_cents, 0), balance_cents),
    ('balance in credits', coalesce(moved.credits, 0), credits_balance),
    ('left of what went in', balance_cents, coalesce(left_cents, 0)),
    ('consumed credits', coalesce(consumed, 0), consumed_credits),
    ('least balance', greatest(balance_cents, 0), balance_cents),
    ('least balance in credits', greatest(credits_balance, 0), credits_balance),
    ('ongoing balance', balance_cents - ongoing_usage_balance_cents, ongoing_balance_cents),
    ('ongoing balance in credits', credits_balance - credits_ongoing_usage_balance, credits_ongoing_balance)
) AS entry (rule, expected, found)
WHERE wallets.organization_id = :organization_id OR :organization_id IS NULL
