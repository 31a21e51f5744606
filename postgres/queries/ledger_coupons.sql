-- Coupons that customers have (billing spec 5.3): none takes more, or of more invoices, than it may, and one that has ends.
WITH used AS (
    SELECT
        credits.applied_coupon_id,
        count(*) AS credits,
        count(DISTINCT credits.invoice_id) AS invoices,
        count(*) FILTER (WHERE credits.currency <> applied_coupons.amount_currency) AS foreign_credits,
        sum(credits.amount_cents) AS amount_cents,
        max(credits.amount_cents) AS most_cents
    FROM credits
    JOIN applied_coupons ON applied_coupons.id = credits.applied_coupon_id
    JOIN invoices ON invoices.id = credits.invoice_id
    WHERE
        invoices.status NOT IN ('voided', 'closed', 'deleted')
        AND (credits.organization_id = :organization_id OR :organization_id IS NULL)
    GROUP BY credits.applied_coupon_id
)
SELECT
    applied_coupons.customer_id,
    'applied coupon' AS object,
    applied_coupons.id AS object_id,
    entry.rule,
    entry.expected,
    entry.found,
    0::numeric AS within
FROM applied_coupons
LEFT JOIN used ON used.applied_coupon_id = applied_coupons.id
CROSS JOIN LATERAL (
    SELECT
        coalesce(used.credits, 0) AS credits,
        coalesce(used.amount_cents, 0) AS taken_cents,
        CASE frequency
            WHEN 'recurring' THEN frequency_duration_remaining = 0
            WHEN 'once' THEN
                used.credits > 0
                AND (percentage_rate IS NOT NULL OR used.amount_cents >= applied_coupons.amount_cents)
            ELSE FALSE
        END IS TRUE AS is_used_up
) AS uses
CROSS JOIN LATERAL (
    VALUES
    ('invoices lowered', coalesce(used.invoices, 0), uses.credits),
    ('most taken', least(taken_cents, CASE frequency WHEN 'once' THEN applied_coupons.amount_cents END), taken_cents),
    ('most taken of an invoice', least(most_cents, applied_coupons.amount_cents), most_cents),
    (
        'most invoices',
        least(uses.credits, CASE WHEN frequency = 'once' AND percentage_rate IS NOT NULL THEN 1 END),
        uses.credits
    ),
    (
        'invoices left',
        frequency_duration - uses.credits,
        CASE frequency WHEN 'recurring' THEN frequency_duration_remaining ELSE frequency_duration - uses.credits END
    ),
    ('of another currency', 0, foreign_credits),
    ('ended', is_used_up::int, (is_used_up AND terminated_at IS NOT NULL)::int)
) AS entry (rule, expected, found)
WHERE (applied_coupons.organization_id = :organization_id OR :organization_id IS NULL) AND entry.found IS NOT NULL
