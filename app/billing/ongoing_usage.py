"""What customers have used and not been charged for: all that their wallets will have to pay (billing spec 7.5)."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, Text, and_, func, select
from sqlalchemy.orm import Session, contains_eager

from app.billing.book import load_customer_taxes
from app.billing.charge_usage import ChargeUsage, Item, Options, charge_usage
from app.billing.close import billed_subscription
from app.billing.remembered import PriceBook
from app.billing.terms import TaxBook
from app.core.boundaries import current
from app.core.charges.properties import TARGET_WALLET
from app.core.money import ZERO, exact
from app.core.ongoing_balance import Bucket
from app.core.values import replace
from app.metering.meter import Meter
from app.models import Customer, Fee, Invoice, Organization, Subscription, among

Unbilled = dict[Bucket, Decimal]
"""Unrounded amounts in minor units, with taxes. One may be negative where more has been billed than is used now."""
Buyer = tuple[UUID, str]
"""A customer, and a currency."""

_UNDIVIDED = Options(presentation_keys=())
_MICROSECOND = timedelta(microseconds=1)


def ongoing_usage(
    db: Session,
    meter: Meter,
    book: PriceBook,
    organization: Organization,
    customer_ids: Collection[UUID],
    now: datetime,
) -> dict[Buyer, Unbilled]:
    """The current usage of customers of one organization, with taxes, and the fees of their draft invoices, less what
    progressive billing has charged for; in a number of queries that does not grow with them.

    Usage that is paid in advance is charged for as it comes, and is no part of it. A period that is over and has not been
    billed counts until it is.
    """
    unbilled: dict[Buyer, Unbilled] = defaultdict(lambda: defaultdict(lambda: ZERO))
    subscriptions = _subscriptions(db, organization, customer_ids)
    items = _items(db, book, organization, subscriptions, now)
    taxes = _taxes(db, book, organization, [one.customer for one in subscriptions])
    with exact():
        for buyer, bucket, amount in _used(meter, items, taxes):
            unbilled[buyer][bucket] += amount
        for buyer, bucket, amount in _drafted(db, customer_ids):
            unbilled[buyer][bucket] += amount
        for buyer, bucket, amount in _billed_progressively(db, items):
            unbilled[buyer][bucket] -= amount
    return {buyer: dict(buckets) for buyer, buckets in unbilled.items()}


Part = tuple[Buyer, Bucket, Decimal]


def _subscriptions(db: Session, organization: Organization, customer_ids: Collection[UUID]) -> Sequence[Subscription]:
    """The active subscriptions of customers."""
    return db.scalars(
        select(Subscription)
        .join(Subscription.customer)
        .join(Customer.billing_entity)
        .where(
            Subscription.organization_id == organization.id,
            among(Subscription.customer_id, customer_ids),
            Subscription.status == "active",
        )
        .order_by(Subscription.id)
        .options(contains_eager(Subscription.customer).contains_eager(Customer.billing_entity))
    ).all()


def _items(
    db: Session, book: PriceBook, organization: Organization, subscriptions: Sequence[Subscription], now: datetime
) -> list[Item]:
    """Subscriptions with their charges in arrears, in every period that has not been billed."""
    plans = {
        plan_id: replace(plan, charges=tuple(one for one in plan.charges if not one.pay_in_advance))
        for plan_id, plan in book.plans(db, organization, {one.plan_id for one in subscriptions}).items()
    }
    items = []
    for one in subscriptions:
        billed = billed_subscription(one, plans)
        boundary = one.next_billing_at
        while boundary is not None and boundary <= now:
            items.append((billed, current(billed.terms, boundary - _MICROSECOND)))
            boundary = billed.terms.next_boundary(boundary)
        items.append((billed, current(billed.terms, now)))
    return [item for item in items if item[0].plan.charges]


def _taxes(db: Session, book: PriceBook, organization: Organization, customers: Sequence[Customer]) -> TaxBook:
    """What these customers' fees carry when neither their charge nor their plan has any taxes."""
    of_entity = book.all_taxes(db, organization, {one.billing_entity_id for one in customers})
    of_customer = {one.id: of_entity[one.billing_entity_id] for one in customers}
    return TaxBook({**of_customer, **load_customer_taxes(db, of_customer)})


def _used(meter: Meter, items: Sequence[Item], taxes: TaxBook) -> Iterator[Part]:
    """What the charges of subscriptions have come to, with taxes."""
    for (subscription, _), usage in zip(items, charge_usage(meter, items, _UNDIVIDED), strict=True):
        buyer, plan = (subscription.customer_id, subscription.plan.currency), subscription.plan
        for one in usage:
            own = taxes.taxes(one.charge.taxes, plan.taxes, customer_id=subscription.customer_id)
            factor = 1 + sum((tax.rate for tax in own), ZERO) / 100
            for bucket, amount_cents in _amounts(one):
                yield buyer, bucket, amount_cents * factor


def _amounts(usage: ChargeUsage) -> Iterator[tuple[Bucket, int]]:
    charge = usage.charge
    for fee in usage.fees:
        if fee.amounts.amount_cents:
            target = fee.group.get(TARGET_WALLET) if charge.accepts_target_wallet else None
            yield Bucket("charge", charge.metric_id, target or None), fee.amounts.amount_cents


def _drafted(db: Session, customer_ids: Collection[UUID]) -> Iterator[Part]:
    """What the fees of draft invoices come to, less coupons and with taxes."""
    yield from _fees(db, and_(among(Invoice.customer_id, customer_ids), Invoice.status == "draft"))


def _billed_progressively(db: Session, items: Sequence[Item]) -> Iterator[Part]:
    """What progressive billing has charged for in these periods: each of its invoices bills all that has been used so far,
    less what those before it have."""
    if not items:
        return
    columns = [subscription.id for subscription, _ in items], [boundaries.charges_from for _, boundaries in items]
    periods = func.unnest(*columns).table_valued("subscription_id", "charges_from").render_derived()
    yield from _fees(
        db,
        and_(
            among(Invoice.customer_id, {subscription.customer_id for subscription, _ in items}),
            Invoice.invoice_type == "progressive_billing",
            Invoice.status.in_(("finalized", "failed")),
            select(1)
            .where(periods.c.subscription_id == Fee.subscription_id, periods.c.charges_from == Fee.from_datetime)
            .exists(),
        ),
    )


def _fees(db: Session, condition: ColumnElement[bool]) -> Iterator[Part]:
    """What is left of the fees of some invoices, put together."""
    target = func.nullif(Fee.grouped_by.op("->>", return_type=Text())(TARGET_WALLET), "")
    metric_id = Fee.item_id
    amount = Fee.amount_cents - Fee.precise_coupons_amount_cents + Fee.taxes_precise_amount_cents
    rows = db.execute(
        select(Fee.customer_id, Fee.currency, Fee.fee_type, metric_id, target, func.sum(amount))
        .join(Invoice, Invoice.id == Fee.invoice_id)
        .where(condition)
        .group_by(Fee.customer_id, Fee.currency, Fee.fee_type, metric_id, target)
    )
    for customer_id, currency, fee_type, item_id, wallet, total in rows:
        yield (customer_id, currency), Bucket(fee_type, item_id if fee_type == "charge" else None, wallet), total
