"""Simulation: what subscriptions would have paid for a past period under a draft of their plan, beside what they pay under
the plan that they have. Nothing is stored.

Both go through the one way from usage to amounts, measured together: the number of queries does not grow with the
subscriptions. What is paid in advance for each event is priced as usage of the whole period.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import islice
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager

from app.billing.billed import BilledLine, BilledSubscription
from app.billing.book import ChargeTerms, PlanTerms, TaxBook, load_plans
from app.billing.charge_usage import ChargeUsage, Options, charge_usage
from app.billing.close import billed_subscription
from app.billing.commitments import lacking_alone
from app.billing.fees import line_fees
from app.billing.priced_terms import KeptTerms
from app.catalog.drafts import with_draft
from app.core.boundaries import Boundaries, Terms, current, terminating
from app.core.periods import local_end, local_start
from app.errors import Invalid, NotFound
from app.metering.meter import Meter
from app.models import BillableMetric, Customer, Plan, Subscription
from app.stores.postgres import Postgres
from app.validation import Changes

MOST_WINDOWS = 100_000
"""How many windows of usage are measured at once."""
PLAIN = Options(presentation_keys=())
NO_TAXES = TaxBook({})


@dataclass(slots=True)
class Change:
    """An amount before and after, in minor units."""

    before: int = 0
    after: int = 0

    @property
    def difference(self) -> int:
        """By how much it rises."""
        return self.after - self.before


@dataclass(slots=True)
class CustomerChange(Change):
    """What one customer pays, and for how many subscriptions."""

    external_id: str = ""
    name: str | None = None
    subscriptions: int = 0


@dataclass(slots=True)
class ChargeChange(Change):
    """What one charge comes to; a charge that the draft adds or removes has nothing on the other side."""

    code: str = ""
    metric_code: str = ""


@dataclass(slots=True)
class Simulation:
    """What a draft changes. Amounts in minor units of `currency`, without taxes. `first` and `last` bound the periods."""

    currency: str
    first: datetime | None = None
    last: datetime | None = None
    subscriptions: int = 0
    total: Change = field(default_factory=Change)
    subscription_fees: Change = field(default_factory=Change)
    charges: dict[UUID, ChargeChange] = field(default_factory=dict)
    customers: dict[UUID, CustomerChange] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Case:
    """A subscription in the period looked at, on its own plan."""

    billed: BilledSubscription
    boundaries: Boundaries
    customer: Customer


def simulate(
    db: Session,
    postgres: Postgres,
    meter: Meter,
    organization_id: UUID,
    plan_code: str | None,
    changes: Changes,
    external_ids: Sequence[str] | None,
    day: date | None,
    now: datetime,
) -> Simulation:
    """The draft of a plan against the usage of each subscription's billing period that contains a day, by default of the
    last one that is over. Without `external_ids` all subscriptions of the plan count that ran then.

    Raises:
        NotFound: `plan_not_found`, `subscription_not_found`, `billable_metrics_not_found`, `tax_not_found`.
        Invalid: the draft breaks a rule of plans and charges, or has another interval or currency than a subscription's
            plan.
    """
    draft = with_draft(postgres, organization_id, plan_code, changes, now, _draft_terms)
    draft = replace(draft, charges=tuple(_as_stored(db, draft.charges)))
    simulation = Simulation(draft.currency)
    plans: dict[UUID, PlanTerms] = {}
    found = list(_subscriptions(db, organization_id, plan_code, external_ids))
    plans.update(load_plans(db, {one.plan_id for one in found}))
    for plan in plans.values():
        _check_comparable(draft, plan)
    cases = _cases(found, plans, day, now)
    most = max(MOST_WINDOWS // max(2 * len(draft.charges), 1), 1)
    while part := list(islice(cases, most)):
        _compare(simulation, meter, part, draft)
    return simulation


def _draft_terms(db: Session, plan: Plan) -> PlanTerms:
    return load_plans(db, [plan.id])[plan.id]


def _as_stored(db: Session, charges: Iterable[ChargeTerms]) -> Iterator[ChargeTerms]:
    """Charges of a draft that know by which properties the usage of their metrics is really split."""
    metrics = {
        id_: (frozenset(keys), pending)
        for id_, keys, pending in db.execute(
            select(BillableMetric.id, BillableMetric.dimension_keys, BillableMetric.dimensions_pending).where(
                BillableMetric.id.in_([one.metric_id for one in charges])
            )
        )
    }
    for one in charges:
        keys, pending = metrics.get(one.metric_id, (frozenset(), True))
        yield replace(one, dimension_keys=keys, dimensions_pending=pending)


def _subscriptions(
    db: Session, organization_id: UUID, plan_code: str | None, external_ids: Sequence[str] | None
) -> Sequence[Subscription]:
    query = (
        select(Subscription)
        .join(Subscription.customer)
        .join(Customer.billing_entity)
        .where(Subscription.organization_id == organization_id, Subscription.started_at.is_not(None))
        .options(contains_eager(Subscription.customer).contains_eager(Customer.billing_entity))
        .order_by(Customer.external_id, Subscription.id)
    )
    if external_ids is not None:
        wanted = {one for one in external_ids if "\x00" not in one}
        query = query.where(Subscription.external_id.in_(wanted))
    else:
        live = (Plan.organization_id == organization_id, Plan.deleted_at.is_(None), Plan.parent_id.is_(None))
        query = query.where(
            Subscription.plan_id == select(Plan.id).where(*live, Plan.code == plan_code).scalar_subquery()
        )
    found = db.scalars(query).all()
    if external_ids is not None and {one.external_id for one in found} != set(external_ids):
        raise NotFound("subscription")
    return found


def _check_comparable(draft: PlanTerms, plan: PlanTerms) -> None:
    wrong = {
        name: ["value_is_invalid"]
        for name, same in (
            ("interval", draft.interval == plan.interval),
            ("amount_currency", draft.currency == plan.currency),
        )
        if not same
    }
    if wrong:
        raise Invalid(wrong)


def _cases(
    subscriptions: Iterable[Subscription], plans: dict[UUID, PlanTerms], day: date | None, now: datetime
) -> Iterator[_Case]:
    """The subscriptions that ran in the period looked at."""
    for one in subscriptions:
        billed = billed_subscription(one, plans)
        boundaries = _boundaries(billed.terms, day, one.terminated_at, now)
        if boundaries is not None:
            yield _Case(billed, boundaries, one.customer)


def _boundaries(terms: Terms, day: date | None, terminated_at: datetime | None, now: datetime) -> Boundaries | None:
    """The period with a day, as far as the subscription ran in it."""
    period = terms.before(terms.period_at(now)) if day is None else terms.period_at(local_start(day, terms.tz))
    starts, ends = local_start(period.start, terms.tz), local_end(period.end, terms.tz)
    if terms.started_at > ends or (terminated_at is not None and terminated_at <= max(starts, terms.started_at)):
        return None
    if terminated_at is not None and terminated_at <= ends:
        return terminating(terms, terminated_at)
    return current(terms, starts)


def _compare(simulation: Simulation, meter: Meter, cases: Sequence[_Case], draft: PlanTerms) -> None:
    """Add a part of the subscriptions to what has been found. Charges that the draft leaves as they are count once."""
    kept: dict[UUID, list[bool]] = {}
    for case in cases:
        plan = case.billed.plan
        if plan.id not in kept:
            known = {KeptTerms.of(one).id for one in plan.charges}
            kept[plan.id] = [KeptTerms.of(one).id in known for one in draft.charges]
    other = {
        plan_id: replace(
            draft, charges=tuple(one for one, is_kept in zip(draft.charges, of, strict=True) if not is_kept)
        )
        for plan_id, of in kept.items()
    }
    before = [(case.billed, case.boundaries) for case in cases]
    after = [(replace(case.billed, plan=other[case.billed.plan.id]), case.boundaries) for case in cases]
    measured = charge_usage(meter, [*before, *after], PLAIN)
    for case, old, new in zip(cases, measured, measured[len(cases) :], strict=False):
        same = {one.charge.id: one for one in old}
        changed = iter(new)
        whole = [
            same[charge.id] if is_kept else next(changed)
            for charge, is_kept in zip(draft.charges, kept[case.billed.plan.id], strict=True)
        ]
        _add(simulation, case, old, (replace(case.billed, plan=draft), whole))


def _add(
    simulation: Simulation,
    case: _Case,
    old: Sequence[ChargeUsage],
    new: tuple[BilledSubscription, Sequence[ChargeUsage]],
) -> None:
    boundaries = case.boundaries
    simulation.subscriptions += 1
    simulation.first = min(simulation.first or boundaries.charges_from, boundaries.charges_from)
    simulation.last = max(simulation.last or boundaries.charges_to, boundaries.charges_to)
    customer = simulation.customers.get(case.customer.id)
    if customer is None:
        customer = CustomerChange(external_id=case.customer.external_id, name=case.customer.name)
        simulation.customers[case.customer.id] = customer
    customer.subscriptions += 1
    for is_after, (billed, usage) in enumerate(((case.billed, old), new)):
        for charge_id, cents in _amounts(billed, boundaries, usage).items():
            changes = (simulation.total, customer, _line(simulation, charge_id, billed.plan))
            for one in changes:
                if is_after:
                    one.after += cents
                else:
                    one.before += cents


def _line(simulation: Simulation, charge_id: UUID | None, plan: PlanTerms) -> Change:
    if charge_id is None:
        return simulation.subscription_fees
    if charge_id not in simulation.charges:
        charge = next(one for one in plan.charges if one.id == charge_id)
        simulation.charges[charge_id] = ChargeChange(code=charge.code, metric_code=charge.metric_code)
    return simulation.charges[charge_id]


def _amounts(
    billed: BilledSubscription, boundaries: Boundaries, usage: Sequence[ChargeUsage]
) -> Mapping[UUID | None, int]:
    """What each charge comes to, and under None everything else: the very fees of an invoice."""
    line = BilledLine(billed, "subscription_periodic", boundaries.charges_to, boundaries)
    amounts: dict[UUID | None, int] = defaultdict(int)
    for fee in line_fees(line, usage, NO_TAXES):
        amounts[fee.charge_id] += fee.amounts.amount_cents
    amounts[None] += lacking_alone(line, sum(amounts.values()))
    return amounts
