-- Credit notes (billing spec 6): their parts, and what of their credit is left to spend. A closed invoice has given back
-- what it had spent.
WITH spent AS (
    SELECT credit_note_id, sum(credits.amount_cents) AS amount_cents
    FROM credits
    JOIN invoices ON invoices.id = credits.invoice_id
    WHERE
        credit_note_id IS NOT NULL
        AND invoices.status <> 'closed'
        AND (credits.organization_id = :organization_id OR :organization_id IS NULL)
    GROUP BY credit_note_id
),
paid_back AS (
    SELECT credit_note_id, sum(amount_cents) AS amount_cents
    FROM wallet_transactions
    WHERE credit_note_id IS NOT NULL AND (organization_id = :organization_id OR :organization_id IS NULL)
    GROUP BY credit_note_id
)
SELECT
    notes.customer_id,
    'credit note' AS object,
    notes.id AS object_id,
    entry.rule,
    entry.expected,
    entry.found,
    0::numeric AS within
FROM credit_notes AS notes
JOIN invoices ON invoices.id = notes.invoice_id
LEFT JOIN spent ON spent.credit_note_id = notes.id
LEFT JOIN paid_back ON paid_back.credit_note_id = notes.id
CROSS JOIN LATERAL (
    SELECT notes.credit_amount_cents - coalesce(spent.amount_cents, 0) AS left_cents
) AS sums
CROSS JOIN LATERAL (
    VALUES
    ('parts', notes.credit_amount_cents + refund_amount_cents + notes.offset_amount_cents, notes.total_amount_cents),
    ('total', notes.sub_total_excluding_taxes_amount_cents + notes.taxes_amount_cents, notes.total_amount_cents),
    (
        'least part',
        0,
        least(notes.credit_amount_cents, refund_amount_cents, notes.offset_amount_cents, notes.taxes_amount_cents, 0)
    ),
    ('balance', CASE credit_status WHEN 'voided' THEN 0 ELSE left_cents END, balance_amount_cents),
    ('most spent', least(coalesce(spent.amount_cents, 0), notes.credit_amount_cents), coalesce(spent.amount_cents, 0)),
    (
        'spent',
        (notes.credit_amount_cents > 0 AND left_cents = 0 AND credit_status <> 'voided')::int,
        (credit_status IS NOT DISTINCT FROM 'consumed')::int
    ),
    -- What a refund of bought credits takes out of the wallet.
    (
        'credits paid back',
        CASE invoice_type WHEN 'credit' THEN refund_amount_cents ELSE 0 END,
        coalesce(paid_back.amount_cents, 0)
    )
) AS entry (rule, expected, found)
WHERE notes.organization_id = :organization_id OR :organization_id IS NULL
