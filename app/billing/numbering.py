"""The numbers of invoices (billing spec 3.4)."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.billing.invoice_drafts import Payer
from app.models import BillingEntity, Customer, Invoice, among, uuids


def next_numbers(db: Session, payers: Sequence[Payer], made_at: datetime) -> Iterable[tuple[int, str]]:
    """The customer's running number with the billing entity, and the document number, of an invoice for each payer, without
    gaps (billing spec 3.4).

    Customers are locked until the transaction ends, and so are the entities that documents are numbered by; when it is
    rolled back, the numbers are free again.
    """
    of_customer = _given(db, {(payer.customer_id, payer.billing_entity_id) for payer in payers})
    of_entity = _advance(db, Counter(one.billing_entity_id for one in payers if one.numbering == "per_billing_entity"))
    for payer in payers:
        key = payer.customer_id, payer.billing_entity_id
        of_customer[key] += 1
        if payer.numbering == "per_billing_entity":
            of_entity[payer.billing_entity_id] += 1
            month = made_at.astimezone(payer.issuer_tz).strftime("%Y%m")
            yield of_customer[key], f"{payer.prefix}-{month}-{of_entity[payer.billing_entity_id]:03d}"
        else:
            yield of_customer[key], f"{payer.prefix}-{payer.customer_number:03d}-{of_customer[key]:03d}"


def _given(db: Session, pairs: Collection[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], int]:
    """The last running number that each of these customers has had with each entity. Locks the customers in the order of
    their ids."""
    if not pairs:
        return {}
    customers, issuers = (list(one) for one in zip(*pairs, strict=True))
    locked = select(Customer.id).where(among(Customer.id, customers)).order_by(Customer.id)
    db.execute(locked.with_for_update(key_share=True)).all()
    wanted = (
        func.unnest(uuids(customers), uuids(issuers)).table_valued("customer_id", "billing_entity_id").render_derived()
    )
    last = (
        select(func.max(Invoice.sequential_id))
        .where(Invoice.customer_id == wanted.c.customer_id, Invoice.billing_entity_id == wanted.c.billing_entity_id)
        .scalar_subquery()
    )
    rows = db.execute(select(wanted.c.customer_id, wanted.c.billing_entity_id, func.coalesce(last, 0)))
    return {(customer, issuer): number for customer, issuer, number in rows}


def _advance(db: Session, by: Mapping[UUID, int]) -> dict[UUID, int]:
    """Move the counters of these entities on and return where each stood before: what they have issued until then, which is
    counted where it is not known. Locks in the order of ids."""
    if not by:
        return {}
    ids = sorted(by)
    locked = select(BillingEntity.id).where(BillingEntity.id.in_(ids)).order_by(BillingEntity.id)
    db.execute(locked.with_for_update(key_share=True)).all()
    steps = func.unnest(ids, [by[one] for one in ids]).table_valued("id", "step").render_derived()
    issued = (
        select(func.count())
        .where(Invoice.billing_entity_id == BillingEntity.id, Invoice.number.is_not(None))
        .scalar_subquery()
    )
    rows = db.execute(
        update(BillingEntity)
        .where(BillingEntity.id == steps.c.id)
        .values(last_invoice_number=func.coalesce(BillingEntity.last_invoice_number, issued) + steps.c.step)
        .returning(BillingEntity.id, func.coalesce(BillingEntity.last_invoice_number, 0) - steps.c.step)
        .execution_options(synchronize_session=False)
    )
    return dict(rows.tuples().all())
