-- Invoices (billing spec 3.5, 3.6): from the fees to what is due, step by step, each against the rows that it comes from.
WITH fee_sums AS (
    SELECT
        invoice_id,
        count(*) AS fees,
        sum(amount_cents) AS amount_cents,
        sum(precise_coupons_amount_cents) AS reduced_cents,
        sum(precise_credit_notes_amount_cents) AS noted_cents
    FROM fees
    WHERE invoice_id IS NOT NULL AND (organization_id = :organization_id OR :organization_id IS NULL)
    GROUP BY invoice_id
),
credit_sums AS (
    SELECT
        credits.invoice_id,
        count(*) AS credits,
        sum(credits.amount_cents) FILTER (WHERE progressive_invoice_id IS NOT NULL) AS progressive_cents,
        sum(credits.amount_cents) FILTER (WHERE applied_coupon_id IS NOT NULL) AS coupons_cents,
        sum(credits.amount_cents) FILTER (WHERE credit_note_id IS NOT NULL) AS notes_cents
    FROM credits
    WHERE organization_id = :organization_id OR :organization_id IS NULL
    GROUP BY credits.invoice_id
),
prepaid_sums AS (
    SELECT
        outbound.invoice_id,
        sum(wallet_consumptions.amount_cents) AS amount_cents,
        coalesce(
            sum(wallet_consumptions.amount_cents) FILTER (WHERE inbound.transaction_status = 'granted'), 0
        ) AS granted_cents
    FROM wallet_transactions AS outbound
    JOIN wallet_consumptions ON wallet_consumptions.outbound_id = outbound.id
    JOIN wallet_transactions AS inbound ON inbound.id = wallet_consumptions.inbound_id
    WHERE
        outbound.transaction_status = 'invoiced'
        AND (outbound.organization_id = :organization_id OR :organization_id IS NULL)
    GROUP BY outbound.invoice_id
),
purchase_sums AS (
    SELECT invoice_id, sum(amount_cents) AS amount_cents
    FROM wallet_transactions
    WHERE transaction_status = 'purchased' AND (organization_id = :organization_id OR :organization_id IS NULL)
    GROUP BY invoice_id
),
payment_sums AS (
    SELECT invoice_id, sum(amount_cents) AS amount_cents
    FROM payments
    WHERE organization_id = :organization_id OR :organization_id IS NULL
    GROUP BY invoice_id
),
note_sums AS (
    SELECT
        invoice_id,
        sum(total_amount_cents) AS total_cents,
        sum(refund_amount_cents) AS refund_cents,
        sum(offset_amount_cents) AS offset_cents
    FROM credit_notes
    WHERE organization_id = :organization_id OR :organization_id IS NULL
    GROUP BY invoice_id
),
progressive_sums AS (
    SELECT credits.progressive_invoice_id AS invoice_id, sum(credits.amount_cents) AS amount_cents
    FROM credits
    JOIN invoices ON invoices.id = credits.invoice_id
    WHERE
        credits.progressive_invoice_id IS NOT NULL
        AND invoices.status IN ('draft', 'pending', 'failed', 'finalized')
        AND (credits.organization_id = :organization_id OR :organization_id IS NULL)
    GROUP BY credits.progressive_invoice_id
)
SELECT
    invoices.customer_id,
    'invoice' AS object,
    invoices.id AS object_id,
    entry.rule,
    entry.expected,
    entry.found,
    entry.within
FROM invoices
LEFT JOIN fee_sums ON fee_sums.invoice_id = invoices.id
LEFT JOIN credit_sums ON credit_sums.invoice_id = invoices.id
LEFT JOIN prepaid_sums ON prepaid_sums.invoice_id = invoices.id
LEFT JOIN purchase_sums ON purchase_sums.invoice_id = invoices.id
LEFT JOIN payment_sums ON payment_sums.invoice_id = invoices.id
LEFT JOIN note_sums ON note_sums.invoice_id = invoices.id
LEFT JOIN progressive_sums ON progressive_sums.invoice_id = invoices.id
CROSS JOIN LATERAL (
    SELECT
        coalesce(progressive_cents, 0) + coalesce(coupons_cents, 0) AS lowered_cents,
        coalesce(fees, 0) AS fees,
        coalesce(credits, 0) AS credits,
        coalesce(note_sums.refund_cents, 0) AS refund_cents,
        coalesce(note_sums.total_cents, 0) AS noted_cents,
        coalesce(progressive_sums.amount_cents, 0) AS later_cents,
        total_amount_cents - total_paid_amount_cents - offset_amount_cents AS due_cents
) AS sums
CROSS JOIN LATERAL (
    VALUES
    ('fees', coalesce(fee_sums.amount_cents, 0), fees_amount_cents, 0::numeric),
    ('progressive billing', coalesce(progressive_cents, 0), progressive_billing_credit_amount_cents, 0),
    ('coupons', coalesce(coupons_cents, 0), coupons_amount_cents, 0),
    -- Each credit's shares of the fees are rounded to 5 decimals.
    ('coupons of the fees', lowered_cents, coalesce(reduced_cents, 0), 0.00001 * sums.fees * sums.credits),
    (
        'sub total',
        fees_amount_cents - progressive_billing_credit_amount_cents - coupons_amount_cents,
        sub_total_excluding_taxes_amount_cents,
        0
    ),
    (
        'sub total with taxes',
        sub_total_excluding_taxes_amount_cents + taxes_amount_cents,
        sub_total_including_taxes_amount_cents,
        0
    ),
    ('credit notes', coalesce(notes_cents, 0), credit_notes_amount_cents, 0),
    -- What the notes have paid is in whole units, the fees and their taxes are not.
    ('credit notes of the fees', credit_notes_amount_cents, coalesce(fee_sums.noted_cents, 0), 1 + sums.fees),
    ('prepaid credits', coalesce(prepaid_sums.amount_cents, 0), prepaid_credit_amount_cents, 0),
    (
        'granted credits',
        coalesce(prepaid_sums.granted_cents, 0),
        coalesce(prepaid_granted_credit_amount_cents, 0),
        0
    ),
    (
        'purchased credits',
        coalesce(prepaid_sums.amount_cents - prepaid_sums.granted_cents, 0),
        coalesce(prepaid_purchased_credit_amount_cents, 0),
        0
    ),
    (
        'total',
        sub_total_including_taxes_amount_cents - credit_notes_amount_cents - prepaid_credit_amount_cents,
        total_amount_cents,
        0
    ),
    ('least sub total', greatest(sub_total_excluding_taxes_amount_cents, 0), sub_total_excluding_taxes_amount_cents, 0),
    ('least total', greatest(total_amount_cents, 0), total_amount_cents, 0),
    ('paid', coalesce(payment_sums.amount_cents, 0), total_paid_amount_cents, 0),
    ('offset', coalesce(note_sums.offset_cents, 0), offset_amount_cents, 0),
    ('least due', greatest(due_cents, 0), due_cents, 0),
    ('most refunded', least(sums.refund_cents, total_paid_amount_cents), sums.refund_cents, 0),
    ('most taken back', least(sums.noted_cents, sub_total_including_taxes_amount_cents), sums.noted_cents, 0),
    (
        'most taken off later invoices',
        least(later_cents, fees_amount_cents - coupons_amount_cents),
        later_cents,
        0
    ),
    (
        'price of the credits',
        CASE invoice_type WHEN 'credit' THEN coalesce(purchase_sums.amount_cents, 0) ELSE 0 END,
        CASE WHEN invoice_type = 'credit' OR purchase_sums.amount_cents > 0 THEN fees_amount_cents ELSE 0 END,
        0
    )
) AS entry (rule, expected, found, within)
WHERE invoices.organization_id = :organization_id OR :organization_id IS NULL
