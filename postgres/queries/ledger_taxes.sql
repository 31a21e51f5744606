-- Taxes of fees and of invoices (billing spec 4.3, 4.4): each figure rounded once from what is exact. Statements of fees
-- that were paid before add up what was paid (billing spec 3.5).
WITH taxed AS (
    SELECT
        fees.id AS fee_id,
        fees.invoice_id,
        fee_taxes.tax_id,
        fee_taxes.tax_rate AS rate,
        fee_taxes.amount_cents,
        fees.amount_cents - fees.precise_coupons_amount_cents AS base,
        (fees.amount_cents - fees.precise_coupons_amount_cents) * fee_taxes.tax_rate * 0.01 AS exact_cents
    FROM fees
    JOIN fee_taxes ON fee_taxes.fee_id = fees.id
    WHERE fees.organization_id = :organization_id OR :organization_id IS NULL
),
by_fee AS (
    SELECT
        fee_id,
        sum(rate) AS rate,
        sum(exact_cents) AS exact_cents,
        sum(abs(round(exact_cents) - amount_cents)) AS off_cents
    FROM taxed
    GROUP BY fee_id
),
by_tax AS (
    SELECT
        taxed.invoice_id,
        tax_id,
        rate,
        CASE invoice_type WHEN 'advance_charges' THEN sum(amount_cents) ELSE round(sum(exact_cents)) END AS amount_cents,
        round(sum(base)) AS fees_amount_cents
    FROM taxed
    JOIN invoices ON invoices.id = taxed.invoice_id
    GROUP BY taxed.invoice_id, invoice_type, tax_id, rate
),
by_invoice AS (
    SELECT
        fees.invoice_id,
        count(*) AS fees,
        sum(fees.taxes_amount_cents) AS rounded_cents,
        coalesce(sum(exact_cents), 0) AS exact_cents,
        coalesce(sum(rate), 0) AS rates,
        coalesce(sum(rate * (fees.amount_cents - fees.precise_coupons_amount_cents)), 0) AS weighted
    FROM fees
    LEFT JOIN by_fee ON by_fee.fee_id = fees.id
    WHERE fees.invoice_id IS NOT NULL AND (fees.organization_id = :organization_id OR :organization_id IS NULL)
    GROUP BY fees.invoice_id
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
LEFT JOIN by_fee ON by_fee.fee_id = fees.id
CROSS JOIN LATERAL (
    VALUES
    ('taxes', round(coalesce(exact_cents, 0)), taxes_amount_cents, 0::numeric),
    ('deviation of tax lines', 0, coalesce(off_cents, 0), 0),
    ('tax rate', coalesce(rate, 0), taxes_rate, 0),
    -- Precise amounts are stored with 30 decimals.
    (
        'precise taxes',
        (precise_amount_cents - precise_coupons_amount_cents) * coalesce(rate, 0) * 0.01,
        taxes_precise_amount_cents,
        1e-20
    )
) AS entry (rule, expected, found, within)
WHERE fees.organization_id = :organization_id OR :organization_id IS NULL
UNION ALL
SELECT
    invoices.customer_id,
    'invoice',
    invoices.id,
    entry.rule,
    entry.expected,
    entry.found,
    entry.within
FROM invoices
LEFT JOIN by_invoice ON by_invoice.invoice_id = invoices.id
CROSS JOIN LATERAL (
    VALUES
    (
        'taxes',
        CASE invoice_type
            WHEN 'advance_charges' THEN coalesce(rounded_cents, 0) ELSE round(coalesce(exact_cents, 0))
        END,
        taxes_amount_cents,
        0::numeric
    ),
    (
        'tax rate',
        CASE
            WHEN invoice_type = 'advance_charges'
                THEN coalesce(round(100 * rounded_cents / nullif(sub_total_excluding_taxes_amount_cents, 0), 2), 0)
            WHEN sub_total_excluding_taxes_amount_cents <> 0
                THEN coalesce(round(weighted / sub_total_excluding_taxes_amount_cents, 5), 0)
            ELSE coalesce(round(rates / fees, 5), 0)
        END,
        taxes_rate,
        0.00001
    )
) AS entry (rule, expected, found, within)
WHERE invoices.organization_id = :organization_id OR :organization_id IS NULL
UNION ALL
SELECT
    invoices.customer_id,
    'invoice',
    invoices.id,
    entry.rule,
    entry.expected,
    entry.found,
    0
FROM (
    SELECT invoice_id, tax_id, tax_rate AS rate, amount_cents, fees_amount_cents
    FROM invoice_taxes
    WHERE organization_id = :organization_id OR :organization_id IS NULL
) AS stored
FULL JOIN by_tax USING (invoice_id, tax_id, rate)
JOIN invoices ON invoices.id = invoice_id
CROSS JOIN LATERAL (
    VALUES
    ('tax line', coalesce(by_tax.amount_cents, 0), coalesce(stored.amount_cents, 0)),
    ('what a tax is on', coalesce(by_tax.fees_amount_cents, 0), coalesce(stored.fees_amount_cents, 0))
) AS entry (rule, expected, found)
