-- What in the customers' ledgers does not balance: of an organization, or of all. One row for each figure that does not
-- follow from the others; `within` is how far the two may be apart. All of it is read in one snapshot.
SELECT
    organizations.name AS organization,
    customers.external_id AS customer,
    entry.object,
    entry.object_id,
    entry.rule,
    entry.expected,
    entry.found,
    count(*) OVER () AS imbalances
FROM (
    (
-- include: ledger_invoices
    )
    UNION ALL
    (
-- include: ledger_fees
    )
    UNION ALL
    (
-- include: ledger_taxes
    )
    UNION ALL
    (
-- include: ledger_coupons
    )
    UNION ALL
    (
-- include: ledger_credit_notes
    )
    UNION ALL
    (
-- include: ledger_wallets
    )
    UNION ALL
    (
-- include: ledger_wallet_transactions
    )
    UNION ALL
    (
-- include: ledger_given_back
    )
) AS entry
LEFT JOIN customers ON customers.id = entry.customer_id
LEFT JOIN organizations ON organizations.id = customers.organization_id
WHERE abs(entry.found - entry.expected) <= entry.within IS NOT TRUE
ORDER BY organizations.name, customers.external_id, entry.object, entry.object_id, entry.rule
LIMIT :most
