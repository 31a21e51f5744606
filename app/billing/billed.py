"""Who is billed and for what: a subscription with its plan, and one line of an invoice. No I/O."""

from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from app.billing.adjustments import Adjustments
from app.billing.terms import ChargeTerms, PlanTerms
from app.core.boundaries import Boundaries, Stretch, Terms
from app.core.charges.proration import ProratedSpan
from app.core.periods import BillingTime, Interval, local_date
from app.core.values import replace

UPGRADE_BILLED_AFTER = timedelta(seconds=1)
"""How long after an upgrade its invoice is dated (billing spec 1.7)."""
_OPENING = ("subscription_starting", "subscription_periodic")
_CLOSING = ("subscription_periodic", "subscription_terminating")


class Buyer(Struct, frozen=True):
    """Who owes a fee, and in which currency."""

    organization_id: UUID
    customer_id: UUID
    currency: str


class BilledSubscription(Struct, frozen=True):
    """What billing needs to know of a subscription and its customer. `billing_entity_id`: who issues its invoices."""

    id: UUID
    organization_id: UUID
    customer_id: UUID
    billing_entity_id: UUID
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
    def buyer(self) -> Buyer:
        """Who owes its fees."""
        return Buyer(self.organization_id, self.customer_id, self.plan.currency)

    @property
    def payer_key(self) -> tuple[UUID, UUID]:
        """Whom its invoices are for, and who issues them."""
        return self.customer_id, self.billing_entity_id

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
            charges_monthly=self.plan.charges_monthly,
            fixed_charges_monthly=self.plan.fixed_charges_monthly,
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


class BilledLine(Struct, frozen=True):
    """One subscription on one invoice: why, when, and between which boundaries. `upgraded_from`: the one in whose place it
    has just come. Of a draft that is made anew: `first_measured_at` is when it was made first, and `adjustments` are the
    fees of it that have been adjusted."""

    subscription: BilledSubscription
    reason: str
    billed_at: datetime
    boundaries: Boundaries
    first_measured_at: datetime | None = None
    adjustments: Adjustments = field(default_factory=dict)
    upgraded_from: UUID | None = None

    @property
    def has_subscription_fee(self) -> bool:
        """A plan paid in advance has paid for the period it is terminated in, and only such a plan pays at the start; a
        trial is free. Where charges are billed monthly, the fee is due when the plan's period is over or begins, and in
        advance also when a trial ends on the day of an invoice (billing spec 2.3)."""
        if self.subscription.in_trial(self.billed_at):
            return False
        pay_in_advance = self.subscription.plan.pay_in_advance
        match self.reason:
            case "subscription_starting":
                return pay_in_advance
            case "subscription_terminating":
                return not pay_in_advance
            case "in_advance_charge" | "progressive_billing":
                return False
            case _:
                return self.boundaries.closes is not None or (pay_in_advance and self._ends_trial)

    @property
    def has_charges(self) -> bool:
        """An invoice at the start of a subscription has no usage to bill, nor has one of a month where charges are not
        billed monthly."""
        charges = self.boundaries.charges
        return self.reason in _CLOSING and charges is not None and charges.from_ < charges.to

    @property
    def ends_charges(self) -> bool:
        """Whether what it bills of charges is all that there will be for them: it has their spending minimums, and what
        progressive billing took too much is given back."""
        return self.reason in _CLOSING

    @property
    def fixed_charges(self) -> Stretch | None:
        """What fixed charges in arrears are billed for; an invoice at the start has none of them."""
        return self.boundaries.fixed_charges if self.reason in _CLOSING else None

    @property
    def fixed_charges_ahead(self) -> Stretch | None:
        """What fixed charges in advance are billed for; the last invoice has none of them."""
        return self.boundaries.fixed_charges_ahead if self.reason in _OPENING else None

    @property
    def charges(self) -> tuple[ChargeTerms, ...]:
        """The charges that are billed: those in arrears, and where a period begins those paid in advance for what is
        carried over into it; other events have been billed one by one (billing spec 2.3)."""
        if not self.has_charges:
            return ()
        begins = self._begins_another
        return tuple(one for one in self.subscription.plan.charges if not one.pay_in_advance or (begins and one.renews))

    @property
    def measured_subscription(self) -> BilledSubscription:
        """The subscription with no other charges than those that are billed."""
        plan, charges = self.subscription.plan, self.charges
        if len(charges) == len(plan.charges):
            return self.subscription
        return replace(self.subscription, plan=replace(plan, charges=charges))

    @property
    def _ends_trial(self) -> bool:
        """Whether the trial ends on the local day of the invoice."""
        ends, tz = self.subscription.trial_ends_at, self.subscription.tz
        return ends is not None and local_date(ends, tz) == local_date(self.billed_at, tz)

    @property
    def _begins_another(self) -> bool:
        """Whether a period follows the one that is billed: after its end, also where a cheaper plan follows then; not where
        the subscription ends within it, or a dearer plan has followed (metering spec 3.12)."""
        return self.boundaries.charges_to < self.billed_at and not self.subscription.ended_by_upgrade

    def without_continued(self, successor: PlanTerms) -> "BilledLine":
        """The line of a plan that a dearer one has followed, without the charges of recurring metrics that go on there and
        are billed there, unless they are prorated (billing spec 1.7)."""
        going_on = {charge.metric_id for charge in successor.charges}
        plan = self.subscription.plan
        charges = tuple(
            one for one in plan.charges if not (one.recurring and not one.prorated and one.metric_id in going_on)
        )
        return replace(self, subscription=replace(self.subscription, plan=replace(plan, charges=charges)))
