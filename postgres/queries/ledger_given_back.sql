-- Prepaid credits that voided and closed invoices have given back (billing spec 1.10, 3.7): once, to the wallet they came from.
WITH spent AS (
    SELECT wallet_id, invoice_id, sum(amount_cents) AS amount_cents, sum(credit_amount) AS credits
    FROM wallet_transactions
    WHERE transaction_status = 'invoiced' AND (organization_id = :organization_id OR :organization_id IS NULL)
    GROUP BY wallet_id, invoice_id
),
given_back AS (
    SELECT wallet_id, voided_invoice_id AS invoice_id, sum(amount_cents) AS amount_cents, sum(credit_amount) AS credits
    FROM wallet_transactions
    WHERE voided_invoice_id IS NOT NULL AND (organization_id = :organization_id OR :organization_id IS NULL)
    GROUP BY wallet_id, voided_invoice_id
)
SELECT
    wallets.customer_id,
    'invoice' AS object,
    invoices.id AS object_id,
    entry.rule,
    CASE WHEN invoices.status IN ('voided', 'closed') THEN coalesce(entry.expected, 0) ELSE 0 END AS expected,
    entry.found,
    0::numeric AS within
FROM given_back
JOIN invoices ON invoices.id = given_back.invoice_id
JOIN wallets ON wallets.id = given_back.wallet_id
LEFT JOIN spent ON spent.wallet_id = given_back.wallet_id AND spent.invoice_id = given_back.invoice_id
CROSS JOIN LATERAL (
    VALUES
    ('given back', spent.amount_cents, given_back.amount_cents),
    ('given back in credits', spent.credits, given_back.credits)
) AS entry (rule, expected, found)
