"""`/api/v1/plans/simulate`: what a draft of a plan would have made of a past period. Not in Lago's API."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Any

import msgspec
import pyarrow as pa
from litestar import Controller, Response
from litestar.params import Parameter
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Running
from app.api.plans import PlanInput
from app.api.request import ExactRequest
from app.api.routes import post
from app.api.wire import Opt, Str, blank, changes, instant_or_none
from app.billing.simulation import Change, CustomerChange, Simulation, simulate
from app.core.periods import local_date
from app.customers.billing_entities import default_timezone
from app.errors import invalid
from app.exporting.formats import Format, encoded
from app.models import Organization

SHOWN = 10
MOST_SHOWN = 1_000
MOST_SUBSCRIPTIONS = 100_000
COLUMNS = pa.schema(
    [
        ("external_customer_id", pa.string()),
        ("customer_name", pa.string()),
        ("subscriptions_count", pa.int64()),
        ("currency", pa.string()),
        ("before_amount_cents", pa.int64()),
        ("after_amount_cents", pa.int64()),
        ("difference_amount_cents", pa.int64()),
    ]
)


class SimulationInput(Struct):
    """`plan` is the draft: fields that are not sent stay as the plan with `plan_code` has them; without a `plan_code` it is
    a new plan. `date` is a day of the period looked at."""

    plan: PlanInput | Opt = UNSET
    plan_code: Str | Opt | None = UNSET
    external_subscription_ids: list[Str] | Opt | None = UNSET
    date: Str | Opt | None = UNSET


class SimulationBody(Struct):
    simulation: SimulationInput


class ChangeObject(Struct):
    before_amount_cents: int
    after_amount_cents: int
    difference_amount_cents: int


class ChargeChangeObject(ChangeObject):
    code: str
    billable_metric_code: str


class CustomerChangeObject(ChangeObject):
    external_customer_id: str
    name: str | None
    subscriptions_count: int


class SimulationObject(Struct, kw_only=True):
    """Amounts are without taxes. `customers` are all of them, those whose amount rises most first."""

    currency: str
    from_datetime: str | None
    to_datetime: str | None
    subscriptions_count: int
    customers_count: int
    paying_more_count: int
    paying_less_count: int
    revenue: ChangeObject
    subscription_fees: ChangeObject
    charges: list[ChargeChangeObject]
    largest_increases: list[CustomerChangeObject]
    largest_decreases: list[CustomerChangeObject]
    customers: list[CustomerChangeObject]


class SimulationAnswer(Struct):
    simulation: SimulationObject


class SimulationController(Controller):
    path = "/plans/simulate"
    tags = ["plans"]
    opt = {"resource": "plan"}

    @post()
    def simulate_plan(
        self,
        data: SimulationBody,
        request: ExactRequest,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        format: Annotated[str | None, Parameter(description="`json` or `csv`; else as `Accept` says.")] = None,  # noqa: A002
        largest: Annotated[int, Parameter(ge=0, le=MOST_SHOWN, description="How many winners and losers.")] = SHOWN,
    ) -> Response[bytes]:
        """Price a past period's real usage with a draft of a plan, beside the plan that each subscription has: revenue
        before and after, by charge and by customer. Nothing is stored."""
        wanted = data.simulation
        plan_code = None if blank(wanted.plan_code) else str(wanted.plan_code)
        chosen = wanted.external_subscription_ids
        if plan_code is None and not isinstance(chosen, list):
            raise invalid("plan_code", "value_is_mandatory")
        if isinstance(chosen, list) and len(chosen) > MOST_SUBSCRIPTIONS:
            raise invalid("external_subscription_ids", "value_is_out_of_range")
        as_csv = _wants_csv(request, format)
        day = _day(db, wanted.date, organization, now)
        service.wait_until_readable(organization.id)
        simulation = simulate(
            db,
            service.postgres,
            service.meter,
            organization.id,
            plan_code,
            changes(wanted.plan) if isinstance(wanted.plan, PlanInput) else {},
            chosen if isinstance(chosen, list) else None,
            day,
            now,
        )
        if as_csv:
            return _csv(simulation)
        answer = SimulationAnswer(_object(simulation, largest))
        return Response(msgspec.json.encode(answer), media_type="application/json")


def _wants_csv(request: ExactRequest, given: str | None) -> bool:
    if given is None:
        accepted = request.headers.get("accept", "").lower()
        return "text/csv" in accepted and "application/json" not in accepted
    if given not in {"json", "csv"}:
        raise invalid("format", "value_is_invalid")
    return given == "csv"


def _day(db: Db, text: Any, organization: Organization, now: datetime) -> date | None:
    if blank(text):
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise invalid("date", "invalid_date") from None
    if not date(1970, 1, 1) <= day <= local_date(now, default_timezone(db, organization.id)):
        raise invalid("date", "value_is_out_of_range")
    return day


def _object(simulation: Simulation, largest: int) -> SimulationObject:
    customers = _by_difference(simulation)
    more = [one for one in customers if one.difference > 0]
    less = [one for one in customers if one.difference < 0]
    return SimulationObject(
        currency=simulation.currency,
        from_datetime=instant_or_none(simulation.first),
        to_datetime=instant_or_none(simulation.last),
        subscriptions_count=simulation.subscriptions,
        customers_count=len(customers),
        paying_more_count=len(more),
        paying_less_count=len(less),
        revenue=ChangeObject(*_figures(simulation.total)),
        subscription_fees=ChangeObject(*_figures(simulation.subscription_fees)),
        charges=[ChargeChangeObject(*_figures(one), one.code, one.metric_code) for one in simulation.charges.values()],
        largest_increases=_objects(more[:largest]),
        largest_decreases=_objects(less[: -largest - 1 : -1] if largest else []),
        customers=_objects(customers),
    )


def _by_difference(simulation: Simulation) -> list[CustomerChange]:
    return sorted(simulation.customers.values(), key=lambda one: (-one.difference, one.external_id))


def _figures(one: Change) -> tuple[int, int, int]:
    return one.before, one.after, one.difference


def _objects(customers: Iterable[CustomerChange]) -> list[CustomerChangeObject]:
    return [CustomerChangeObject(*_figures(one), one.external_id, one.name, one.subscriptions) for one in customers]


def _csv(simulation: Simulation) -> Response[bytes]:
    rows = [
        (one.external_id, one.name, one.subscriptions, simulation.currency, *_figures(one))
        for one in _by_difference(simulation)
    ]
    names = COLUMNS.names
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=COLUMNS)
    return Response(
        b"".join(encoded(Format.CSV, COLUMNS, [table])),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="simulation.csv"'},
    )
