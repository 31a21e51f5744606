-- Fees: what was taken off each before and after taxes, and what credit notes took back of it, is part of it; and whatever
-- an invoice is made of, lowered or paid by is of its own customer and in its own currency. An amount is rounded once; but what
-- tops fees up to a minimum is what their rounded amounts lack, and unrounded what their unrounded ones do.
WITH noted AS (
    SELECT fee_id, sum(precise_amount_cents) AS amount_cents
    FROM credit_note_items
    WHERE organization_id = :organization_id OR :organization_id IS NULL
    GROUP BY fee_id
)
SELECT
    fees.customer_id,
    'fee' AS object,
    fees.id AS object_id,
    entry.rule,
    entry.expected,
    entry.found,
    entry.within
FROM fees
LEFT JOIN noted ON noted.fee_id = fees.id
CROSS JOIN LATERAL (
    SELECT greatest(fees.amount_cents, 0) AS most_cents, coalesce(noted.amount_cents, 0) AS noted_cents
) AS sums
CROSS JOIN LATERAL (
    VALUES
    ('amount',
        CASE WHEN fees.true_up_parent_fee_id IS NULL THEN round(fees.precise_amount_cents) ELSE fees.amount_cents END,
        fees.amount_cents, 0::numeric),
    ('most lowered before taxes', least(fees.precise_coupons_amount_cents, most_cents), fees.precise_coupons_amount_cents, 0),
    ('most taken back', least(noted_cents, most_cents), noted_cents, 0)
) AS entry (rule, expected, found, within)
WHERE fees.organization_id = :organization_id OR :organization_id IS NULL
UNION ALL
SELECT
    invoices.customer_id,
    part.object,
    part.id,
    'customer and currency',
    1,
    (part.customer_id = invoices.customer_id AND part.currency = invoices.currency)::int,
    0
FROM invoices
JOIN (
    SELECT 'fee' AS object, id, organization_id, invoice_id, customer_id, currency
    FROM fees
    UNION ALL
    SELECT 'payment', id, organization_id, invoice_id, customer_id, currency
    FROM payments
    UNION ALL
    SELECT 'credit note', id, organization_id, invoice_id, customer_id, currency
    FROM credit_notes
    UNION ALL
    SELECT 'credit', credits.id, credits.organization_id, credits.invoice_id, sources.customer_id, credits.currency
    FROM credits
    LEFT JOIN credit_notes ON credit_notes.id = credits.credit_note_id
    LEFT JOIN applied_coupons ON applied_coupons.id = credits.applied_coupon_id
    LEFT JOIN invoices AS earlier ON earlier.id = credits.progressive_invoice_id
    CROSS JOIN LATERAL (
        SELECT coalesce(credit_notes.customer_id, applied_coupons.customer_id, earlier.customer_id) AS customer_id
    ) AS sources
    UNION ALL
    SELECT 'wallet transaction', moved.id, moved.organization_id, moved.invoice_id, wallets.customer_id, wallets.currency
    FROM wallet_transactions AS moved
    JOIN wallets ON wallets.id = moved.wallet_id
) AS part ON part.invoice_id = invoices.id
WHERE part.organization_id = :organization_id OR :organization_id IS NULL
