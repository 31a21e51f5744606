"""Simulation: what subscriptions would have paid for a past period under a draft of their plan, beside what they pay under
the plan that they have. Nothing is stored.

Both go through the one way from usage to amounts, measured together: the number of queries does not grow with the
subscriptions. What is paid in advance for each event is priced as usage of the whole period.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager

from app.billing.billed import BilledLine, BilledSubscription
from app.billing.book import load_plans
from app.billing.charge_usage import ChargeUsage, Options, charge_usage
from app.billing.close import billed_subscription
from app.billing.commitments import lacking_alone
from app.billing.fees import line_fees
from app.billing.priced_terms import KeptTerms
from app.billing.terms import ChargeTerms, PlanTerms, TaxBook
from app.catalog.drafts import with_draft
from app.core.boundaries import Boundaries, Terms, current, terminating
from app.core.periods import local_end, local_start
from app.core.values import replace
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
    """A subscription in the period looked at, on its own plan. `parts` are the periods that charges are billed for: the
    period itself, or its months."""

    billed: BilledSubscription
    parts: tuple[Boundaries, ...]
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
        parts = tuple(_parts(billed.terms, day, one.terminated_at, now))
        if parts:
            yield _Case(billed, parts, one.customer)


def _parts(terms: Terms, day: date | None, terminated_at: datetime | None, now: datetime) -> Iterator[Boundaries]:
    """The period with a day, as far as the subscription ran in it; with the months that its charges are billed for."""
    period = terms.before(terms.period_at(now)) if day is None else terms.period_at(local_start(day, terms.tz))
    instant, ends = max(local_start(period.start, terms.tz), terms.started_at), local_end(period.end, terms.tz)
    while instant <= ends and (terminated_at is None or instant < terminated_at):
        following = terms.next_charges_boundary(instant)
        is_last = terminated_at is not None and terminated_at < following and terminated_at <= ends
        yield terminating(terms, terminated_at) if is_last and terminated_at else current(terms, instant)
        instant = following


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
    before = [(case.billed, part) for case in cases for part in case.parts]
    after = [(replace(billed, plan=other[billed.plan.id]), part) for billed, part in before]
    measured = iter(charge_usage(meter, [*before, *after], PLAIN))
    of_cases = [[next(measured) for _ in case.parts] for case in cases]
    for case, old in zip(cases, of_cases, strict=True):
        new = []
        for part in old:
            same, changed = {one.charge.id: one for one in part}, iter(next(measured))
            new.append(
                [
                    same[charge.id] if is_kept else next(changed)
                    for charge, is_kept in zip(draft.charges, kept[case.billed.plan.id], strict=True)
                ]
            )
        _add(simulation, case, old, (replace(case.billed, plan=draft), new))


def _add(
    simulation: Simulation,
    case: _Case,
    old: Sequence[Sequence[ChargeUsage]],
    new: tuple[BilledSubscription, Sequence[Sequence[ChargeUsage]]],
) -> None:
    first, last = case.parts[0].charges_from, case.parts[-1].charges_to
    simulation.subscriptions += 1
    simulation.first = min(simulation.first or first, first)
    simulation.last = max(simulation.last or last, last)
    customer = simulation.customers.get(case.customer.id)
    if customer is None:
        customer = CustomerChange(external_id=case.customer.external_id, name=case.customer.name)
        simulation.customers[case.customer.id] = customer
    customer.subscriptions += 1
    for is_after, (billed, usage) in enumerate(((case.billed, old), new)):
        for charge_id, cents in _amounts(billed, case.parts, usage).items():
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
    billed: BilledSubscription, parts: Sequence[Boundaries], usage: Sequence[Sequence[ChargeUsage]]
) -> Mapping[UUID | None, int]:
    """What each charge comes to, and under None everything else: the very fees of invoices, of which the last has those of
    the plan's period."""
    amounts: dict[UUID | None, int] = defaultdict(int)
    for part, used in zip(parts, usage, strict=True):
        closes = part is parts[-1]
        line = BilledLine(billed, "subscription_periodic" if closes else "in_advance_charge", part.charges_to, part)
        for fee in line_fees(line, used, NO_TAXES):
            amounts[fee.charge_id] += fee.amounts.amount_cents
        if closes:
            amounts[None] += lacking_alone(line, sum(amounts.values()))
    return amounts
