"""Billing events one by one, as they come: the fees of charges paid in advance (metering spec 3.12, billing spec 2.3).

An organization with such a charge has a mark: until when its events, in the order of ingestion, have been looked at. What
came after it is looked at in chunks. A chunk is one transaction that makes the fees and the invoices, moves the levels
and moves the mark, so that each event is billed once, whatever breaks off. The mark is locked meanwhile: of several
processes one bills an organization at a time. Where they share a ClickHouse server, an event may be seen later than
others that were ingested after it; there each look goes back a while, and passes over what has its fees.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.billing.advance_due import Due
from app.billing.advance_fees import Owners, bill_events, dues_of
from app.billing.billed import BilledLine
from app.billing.fees import FeeDraft
from app.billing.invoice_drafts import InvoiceDraft
from app.billing.invoices import LARGEST_TOTAL, write_fees, write_invoices
from app.billing.locks import lock_customers
from app.billing.payers import payers_of
from app.billing.remembered import PriceBook
from app.clock import now_of
from app.metering.arrivals import Known, arrivals, busy_since, last_arrival
from app.metering.meter import Meter
from app.models import AdvanceMark, BillableMetric, Charge, Fee, Organization, Subscription
from app.stores.clickhouse import ClickHouse
from app.stores.postgres import Postgres

CHUNK = 5_000
LARGEST_UNIT_AMOUNT = Decimal(10) ** 30
"""What the column of unit prices can hold."""
RECENT = timedelta(minutes=1)
"""How far before the mark is looked where other processes write."""
LATE = timedelta(minutes=15)
"""The same, now and then: longer than it takes until what a process that died left half-written is put right."""
NO_TIME = timedelta(0)

log = structlog.get_logger(__name__)


class AdvanceBilling:
    """Makes the fees that are due. To be used by one thread of a process at a time."""

    def __init__(self, postgres: Postgres, clickhouse: ClickHouse, meter: Meter, book: PriceBook):
        self._postgres = postgres
        self._clickhouse = clickhouse
        self._meter = meter
        self._book = book

    def marks(self) -> dict[UUID, datetime]:
        """The organizations whose events are billed one by one, and until when they have been."""
        with self._postgres.reserved() as db:
            rows = db.execute(select(AdvanceMark.organization_id, AdvanceMark.billed_until))
            return dict(rows.all())

    def busy(self) -> list[UUID]:
        """Those of the organizations that have had events lately, or have some that were not looked at."""
        back = NO_TIME if self._clickhouse.embedded else LATE
        return busy_since(self._clickhouse, [(one, until - back) for one, until in self.marks().items()])

    def bill(self, organization_id: UUID, *, late: bool = False) -> int:
        """Make the fees of every event that has come; returns their number. `late`: look for those, too, that were
        ingested a while ago and could not be seen then."""
        back = NO_TIME if self._clickhouse.embedded else LATE if late else RECENT
        made, cursor = 0, None
        while True:
            with self._postgres.reserved() as db:
                mark = db.get(AdvanceMark, organization_id, with_for_update=True)
                if mark is None:
                    return made
                after = mark.billed_until - back if cursor is None else cursor
                until = last_arrival(self._clickhouse, organization_id, after)
                if until is None:
                    return made
                fees, seen = self._bill_chunk(db, organization_id, after, until)
                made += fees
                cursor = until if seen is None else seen
                mark.billed_until = max(mark.billed_until, cursor)
            if seen is None:
                return made

    def _bill_chunk(
        self, db: Session, organization_id: UUID, after: datetime, until: datetime
    ) -> tuple[int, datetime | None]:
        """Bill the next events; gives the number of fees, and until when that was, None where there are no more."""
        organization = db.get_one(Organization, organization_id)
        codes = _codes(db, organization_id)
        came = arrivals(self._clickhouse, organization_id, codes, after, until, CHUNK) if codes else []
        seen = came[-1].ingested_at if len(came) >= CHUNK else None
        if not came:
            return 0, seen
        owners = Owners(db, self._book, organization, {one.external_subscription_id for one in came})
        dues = _not_billed(db, organization_id, dues_of(owners, came))
        known = Known(came[-1].ingested_at, {due.arrival.key for due in dues})
        drafts, levels = bill_events(db, self._clickhouse, self._meter, organization_id, dues, known)
        fees = [(due, draft) for due, draft in zip(dues, drafts, strict=True) if _can_be_billed(due, draft)]
        _write(db, fees, owners.subscriptions, now_of(organization))
        levels.save(db)
        return len(fees), seen


def _codes(db: Session, organization_id: UUID) -> list[str]:
    """The codes of events that may be billed one by one."""
    return list(
        db.scalars(
            select(BillableMetric.code)
            .distinct()
            .join(Charge, Charge.billable_metric_id == BillableMetric.id)
            .where(
                BillableMetric.organization_id == organization_id,
                BillableMetric.deleted_at.is_(None),
                Charge.organization_id == organization_id,
                Charge.pay_in_advance,
                Charge.deleted_at.is_(None),
            )
        )
    )


def _not_billed(db: Session, organization_id: UUID, dues: Sequence[Due]) -> list[Due]:
    """Those that have no fee yet."""
    if not dues:
        return []
    ids = [(due.event_id, due.charge.id) for due in dues]
    columns = [list(column) for column in zip(*ids, strict=True)]
    keys = func.unnest(*columns).table_valued("event_id", "charge_id").render_derived()
    billed = set(
        db.execute(
            select(Fee.event_id, Fee.charge_id)
            .join(keys, (Fee.event_id == keys.c.event_id) & (Fee.charge_id == keys.c.charge_id))
            .where(Fee.organization_id == organization_id)
        )
    )
    return [due for due, key in zip(dues, ids, strict=True) if key not in billed]


def _can_be_billed(due: Due, draft: FeeDraft) -> bool:
    """An amount that cannot be stored must not keep all other events from being billed."""
    amounts = draft.amounts
    total = amounts.amount_cents + draft.tax_amounts.amount_cents
    if total <= LARGEST_TOTAL and amounts.precise_unit_amount < LARGEST_UNIT_AMOUNT:
        return True
    log.error("advance.amount_too_large", subscription_id=str(due.subscription.id), transaction_id=due.arrival.key[1])
    return False


def _write(
    db: Session, fees: Sequence[tuple[Due, FeeDraft]], subscriptions: Sequence[Subscription], made_at: datetime
) -> None:
    """Store the fees: each on an invoice of its own, or standing alone."""
    payers = payers_of(subscriptions)
    invoiced = {draft.buyer.customer_id for _, draft in fees if draft.invoiceable}
    lock_customers(db, invoiced)
    write_fees(db, [draft for _, draft in fees if not draft.invoiceable], made_at)
    write_invoices(
        db,
        [
            InvoiceDraft(
                payers[due.subscription.payer_key],
                draft.buyer.currency,
                line.billed_at,
                due.subscription.purchase_order_number,
                ((line, (draft,)),),
            )
            for due, draft in fees
            if draft.invoiceable
            for line in [BilledLine(due.subscription, "in_advance_charge", due.instant, due.boundaries)]
        ],
        made_at,
    )
