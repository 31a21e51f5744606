"""Who is billed and for what: a subscription with its plan, and one line of an invoice. No I/O."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from app.billing.book import PlanTerms
from app.core.boundaries import Boundaries, Terms
from app.core.charges.proration import ProratedSpan
from app.core.periods import BillingTime, Interval, local_date


@dataclass(frozen=True, slots=True)
class BilledSubscription:
    """What billing needs to know of a subscription and its customer."""

    id: UUID
    organization_id: UUID
    customer_id: UUID
    external_id: str
    name: str | None
    plan: PlanTerms
    billing_time: str
    subscription_at: datetime
    started_at: datetime
    tz: ZoneInfo
    consolidate_invoice: bool
    purchase_order_number: str | None
    trial_ends_at: datetime | None = None
    ended_by_upgrade: bool = False

    def in_trial(self, instant: datetime) -> bool:
        """Whether the free trial goes on after the local day of an instant."""
        ends = self.trial_ends_at
        return ends is not None and ends > instant and local_date(ends, self.tz) > local_date(instant, self.tz)

    @property
    def terms(self) -> Terms:
        """What decides its periods."""
        return Terms(
            interval=Interval(self.plan.interval),
            billing_time=BillingTime(self.billing_time),
            pay_in_advance=self.plan.pay_in_advance,
            anchor_at=self.subscription_at,
            started_at=self.started_at,
            tz=self.tz,
        )

    def span(self, boundaries: Boundaries) -> ProratedSpan:
        """The time that its charges are prorated over."""
        return ProratedSpan(
            boundaries.charges_from,
            boundaries.charges_to,
            boundaries.charges_period_days,
            self.tz,
            ends_by_upgrade=self.ended_by_upgrade,
        )


@dataclass(frozen=True, slots=True)
class BilledLine:
    """One subscription on one invoice: why, when, and between which boundaries."""

    subscription: BilledSubscription
    reason: str
    billed_at: datetime
    boundaries: Boundaries

    @property
    def has_subscription_fee(self) -> bool:
        """A plan paid in advance has paid for the period it is terminated in; a trial is free (billing spec 2.3)."""
        if self.subscription.in_trial(self.billed_at):
            return False
        return not (self.reason == "subscription_terminating" and self.subscription.plan.pay_in_advance)

    @property
    def has_charges(self) -> bool:
        """An invoice at the start of a subscription has no usage to bill."""
        return self.reason != "subscription_starting" and self.boundaries.charges_from < self.boundaries.charges_to
