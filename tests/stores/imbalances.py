"""Figures that are broken, one for each rule of the ledger and more."""

MORE, HUGE = "{} + 1", "{} + 1000000000000000"
UNPREPAID = "prepaid_credit_amount_cents = 0"
FINAL = "status = 'finalized'"
OTHER_CUSTOMER = (
    "(SELECT id FROM customers AS others WHERE others.organization_id = {table}.organization_id"
    " AND others.id <> {table}.customer_id LIMIT 1)"
)
TOPPED_UP = "transaction_type = 'inbound' AND status = 'settled'"
SPENT = "transaction_status = 'invoiced'"
PAYING = "id IN (SELECT wallet_id FROM wallet_transactions WHERE transaction_status = 'invoiced')"
WENT_OUT = "transaction_type = 'outbound'"
OF_NOTE, OF_COUPON = "credit_note_id IS NOT NULL", "applied_coupon_id IS NOT NULL"
USED = "id IN (SELECT applied_coupon_id FROM credits JOIN invoices ON invoices.id = invoice_id WHERE {})"
KEPT = USED.format(FINAL)
COUPON_OF_FINAL = "applied_coupon_id IS NOT NULL AND invoice_id IN (SELECT id FROM invoices WHERE status = 'finalized')"
USED_TWICE = (
    "id IN (SELECT applied_coupon_id FROM credits JOIN invoices ON invoices.id = invoice_id"
    " WHERE status = 'finalized' GROUP BY applied_coupon_id HAVING count(*) > 1)"
)
INVOICE_OF_SAME_COUPON = (
    "(SELECT max(more.invoice_id::text)::uuid FROM credits AS more JOIN invoices ON invoices.id = more.invoice_id"
    " WHERE more.applied_coupon_id = credits.applied_coupon_id AND more.id <> credits.id AND status = 'finalized')"
)
SOME_NOTE = "(SELECT notes.id FROM credit_notes AS notes WHERE notes.organization_id = {table}.organization_id LIMIT 1)"
SOURCE_IN_OTHER_WALLET = (
    "(SELECT inbound.id FROM wallet_transactions AS inbound JOIN wallet_transactions AS outbound"
    " ON outbound.wallet_id <> inbound.wallet_id WHERE inbound.transaction_type = 'inbound'"
    " AND outbound.id = wallet_consumptions.outbound_id LIMIT 1)"
)
RECURRING = "frequency = 'recurring'"
FIXED_ONCE = f"frequency = 'once' AND amount_cents > 0 AND {KEPT}"
SHARE_ONCE = f"frequency = 'once' AND percentage_rate > 0 AND {KEPT}"
TAXED = "id IN (SELECT fee_id FROM fee_taxes)"

BROKEN: list[tuple[str, str, str, str, str]] = [
    ("invoice", "fees", "fees.amount_cents", MORE, "invoice_id IS NOT NULL"),
    ("invoice", "progressive billing", "invoices.progressive_billing_credit_amount_cents", MORE, FINAL),
    ("invoice", "coupons", "credits.amount_cents", MORE, OF_COUPON),
    ("invoice", "coupons of the fees", "fees.precise_coupons_amount_cents", "0.01", "precise_coupons_amount_cents > 1"),
    ("invoice", "sub total", "invoices.sub_total_excluding_taxes_amount_cents", MORE, FINAL),
    ("invoice", "sub total with taxes", "invoices.sub_total_including_taxes_amount_cents", MORE, FINAL),
    ("invoice", "credit notes", "credits.amount_cents", MORE, OF_NOTE),
    ("invoice", "credit notes of the fees", "fees.precise_credit_notes_amount_cents", HUGE, "invoice_id IS NOT NULL"),
    ("invoice", "prepaid credits", "invoices.prepaid_credit_amount_cents", MORE, "prepaid_credit_amount_cents > 0"),
    ("invoice", "granted credits", "invoices.prepaid_granted_credit_amount_cents", MORE, "prepaid_credit_amount_cents > 0"),
    ("invoice", "purchased credits", "invoices.prepaid_purchased_credit_amount_cents", "7", UNPREPAID),
    ("invoice", "total", "invoices.total_amount_cents", MORE, FINAL),
    ("invoice", "least sub total", "invoices.sub_total_excluding_taxes_amount_cents", "-1", FINAL),
    ("invoice", "least total", "invoices.total_amount_cents", "-1", FINAL),
    ("invoice", "paid", "payments.amount_cents", MORE, "true"),
    ("invoice", "offset", "credit_notes.offset_amount_cents", MORE, "offset_amount_cents > 0"),
    ("invoice", "least due", "invoices.total_paid_amount_cents", HUGE, FINAL),
    ("invoice", "most refunded", "credit_notes.refund_amount_cents", HUGE, "true"),
    ("invoice", "most taken back", "credit_notes.total_amount_cents", HUGE, "true"),
    ("invoice", "most taken off later invoices", "credits.progressive_invoice_id, amount_cents",
     "invoice_id, 1000000000000000", COUPON_OF_FINAL),
    ("invoice", "price of the credits", "wallet_transactions.amount_cents", MORE, "transaction_status = 'purchased'"),
    ("invoice", "taxes", "invoices.taxes_amount_cents", MORE, FINAL),
    ("invoice", "tax rate", "invoices.taxes_rate", MORE, FINAL),
    ("invoice", "tax line", "invoice_taxes.amount_cents", MORE, "true"),
    ("invoice", "what a tax is on", "invoice_taxes.fees_amount_cents", MORE, "true"),
    ("invoice", "given back", "wallet_transactions.amount_cents", MORE, "voided_invoice_id IS NOT NULL"),
    ("invoice", "given back in credits", "wallet_transactions.credit_amount", MORE, "voided_invoice_id IS NOT NULL"),
    ("invoice", "given back", "invoices.status", "'finalized'",
     "id IN (SELECT voided_invoice_id FROM wallet_transactions)"),
    ("fee", "amount", "fees.amount_cents", MORE, "true"),
    ("fee", "most lowered before taxes", "fees.precise_coupons_amount_cents", "amount_cents + 0.00001", "true"),
    ("fee", "most taken back", "credit_note_items.precise_amount_cents", HUGE, "true"),
    ("fee", "taxes", "fees.taxes_amount_cents", MORE, "true"),
    ("fee", "deviation of tax lines", "fee_taxes.amount_cents", MORE, "true"),
    ("fee", "tax rate", "fees.taxes_rate", MORE, TAXED),
    ("fee", "precise taxes", "fees.taxes_precise_amount_cents", "{} + 0.0000001", TAXED),
    ("fee", "customer and currency", "fees.currency", "'USD'", "invoice_id IS NOT NULL"),
    ("fee", "customer and currency", "fees.customer_id", OTHER_CUSTOMER, "invoice_id IS NOT NULL"),
    ("payment", "customer and currency", "payments.customer_id", OTHER_CUSTOMER, "true"),
    ("credit note", "customer and currency", "credit_notes.customer_id", OTHER_CUSTOMER, "true"),
    ("credit", "customer and currency", "credits.currency", "'USD'", "true"),
    ("credit", "customer and currency", "credit_notes.customer_id", OTHER_CUSTOMER,
     "id IN (SELECT credit_note_id FROM credits)"),
    ("wallet transaction", "customer and currency", "wallets.currency", "'USD'", PAYING),
    ("applied coupon", "invoices lowered", "credits.invoice_id", INVOICE_OF_SAME_COUPON, f"applied_coupon_{USED_TWICE}"),
    ("applied coupon", "most taken", "applied_coupons.amount_cents", "1", FIXED_ONCE),
    ("applied coupon", "most taken of an invoice", "applied_coupons.amount_cents", "1",
     f"frequency = 'forever' AND {KEPT}"),
    ("applied coupon", "most invoices", "applied_coupons.frequency, percentage_rate", "'once', 5",
     f"frequency = 'forever' AND {USED_TWICE}"),
    ("applied coupon", "invoices left", "applied_coupons.frequency_duration_remaining", MORE, RECURRING),
    ("applied coupon", "of another currency", "applied_coupons.amount_currency", "'USD'", FIXED_ONCE),
    ("applied coupon", "ended", "applied_coupons.terminated_at", "NULL", SHARE_ONCE),
    ("applied coupon", "ended", "applied_coupons.terminated_at", "NULL",
     f"{RECURRING} AND frequency_duration_remaining = 0"),
    ("credit note", "parts", "credit_notes.refund_amount_cents", MORE, "true"),
    ("credit note", "total", "credit_notes.taxes_amount_cents", MORE, "true"),
    ("credit note", "least part", "credit_notes.offset_amount_cents", "-1", "true"),
    ("credit note", "balance", "credit_notes.balance_amount_cents", MORE, "true"),
    ("credit note", "balance", "credit_notes.balance_amount_cents", MORE, "credit_status = 'voided'"),
    ("credit note", "most spent", "credits.amount_cents", HUGE, OF_NOTE),
    ("credit note", "spent", "credit_notes.credit_status", "'available'", "credit_status = 'consumed'"),
    ("credit note", "credits paid back", "wallet_transactions.credit_note_id", SOME_NOTE, SPENT),
    ("wallet", "balance", "wallets.balance_cents", MORE, "true"),
    ("wallet", "balance", "wallet_transactions.amount_cents", MORE, TOPPED_UP),
    ("wallet", "balance in credits", "wallets.credits_balance", MORE, "true"),
    ("wallet", "left of what went in", "wallet_transactions.remaining_amount_cents", MORE, TOPPED_UP),
    ("wallet", "consumed credits", "wallets.consumed_credits", MORE, "true"),
    ("wallet", "least balance", "wallets.balance_cents", "-1", "true"),
    ("wallet", "least balance in credits", "wallets.credits_balance", "-0.00001", "true"),
    ("wallet", "ongoing balance", "wallets.ongoing_balance_cents", MORE, "true"),
    ("wallet", "ongoing balance in credits", "wallets.credits_ongoing_balance", MORE, "true"),
    ("wallet transaction", "left of it", "wallet_transactions.remaining_amount_cents", MORE, TOPPED_UP),
    ("wallet transaction", "least left of it", "wallet_transactions.remaining_amount_cents", "-1", TOPPED_UP),
    ("wallet transaction", "most gone out of it", "wallet_consumptions.amount_cents", HUGE, "true"),
    ("wallet transaction", "what it came out of", "wallet_transactions.amount_cents", MORE, WENT_OUT),
    ("wallet transaction", "came out of other wallets", "wallet_consumptions.inbound_id", SOURCE_IN_OTHER_WALLET, "true"),
    ("wallet transaction", "went out and settled", "wallet_transactions.status", "'pending'", WENT_OUT),
]  # fmt: skip
"""What does not balance then, by which rule; and what is broken: the columns of a table, their new values, of which row."""
