"""Units of fixed charges in PostgreSQL: how many statements a close takes, and what happens at the same time."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.billing.close import close_chunk
from app.catalog.add_ons import create_add_on
from app.catalog.fixed_charge_copies import copy_fixed_charges
from app.catalog.fixed_charges import (
    find_fixed_charge,
    fixed_charges_of,
    remove_fixed_charge,
    write_fixed_charge,
    write_fixed_charges,
)
from app.catalog.plans import create_plan, find_bare_plan, find_plan
from app.customers.organizations import create_organization
from app.customers.subscriptions import create_subscription, find_subscription, override_fixed_charge
from app.models import Fee, FixedCharge, Invoice, Organization, Plan, Subscription, SubscriptionUnits
from app.stores.postgres import Postgres
from tests.stores.tables import METER, somebody_waits, statements
from tests.support import wait_for

JUNE = datetime(2024, 6, 1, tzinfo=UTC)
JULY = datetime(2024, 7, 1, tzinfo=UTC)
FIVE_PAST = JULY + timedelta(minutes=5)
PLAN = {"name": "P", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR", "pay_in_advance": False}
AT_ONCE = {"apply_units_immediately": True}

pytestmark = pytest.mark.filterwarnings("ignore:Passing expression to ``distinct``")


@pytest.fixture
def owner(postgres: Postgres) -> UUID:
    """A fresh organization with the add-on `seat`."""
    with postgres.session() as db:
        organization, _ = create_organization(db, name="Owner", now=JUNE)
    with postgres.session() as db:
        add_on = {"name": "Seat", "code": "seat", "amount_cents": 0, "amount_currency": "EUR"}
        create_add_on(db, organization.id, add_on, JUNE)
    return organization.id


def fixed(**more: object) -> dict[str, Any]:
    sent = {"add_on_code": "seat", "units": Decimal(10), "charge_model": "standard", "properties": {"amount": "1"}}
    return {**sent, **more}


def sell(db: Session, owner: UUID, *charges: dict[str, Any], code: str = "plan") -> None:
    create_plan(db, owner, {**PLAN, "code": code, "fixed_charges": list(charges)}, JUNE)


def subscribe(db: Session, owner: UUID, external_id: str, plan: str = "plan", now: datetime = JUNE) -> None:
    sent = {"external_customer_id": f"of {external_id}", "external_id": external_id, "plan_code": plan}
    create_subscription(db, db.get_one(Organization, owner), sent, now, METER)


def raise_plan(db: Session, owner: UUID, units: int, now: datetime = JUNE) -> None:
    plan = find_bare_plan(db, owner, "plan", lock=True)
    charge = find_fixed_charge(db, plan, "seat")
    write_fixed_charge(db, plan, charge, {"units": Decimal(units), **AT_ONCE}, in_use=True, now=now)


def raise_own(db: Session, owner: UUID, units: int, now: datetime = JUNE) -> None:
    subscription = find_subscription(db, owner, "sub", None)
    override_fixed_charge(db, subscription, "seat", {"units": Decimal(units), **AT_ONCE}, now)


def close(db: Session, owner: UUID) -> int:
    return len(close_chunk(db, Organization.id == owner, JULY, FIVE_PAST, 1_000, METER).invoices)


def billed(db: Session, owner: UUID, since: datetime = JUNE) -> list[tuple[datetime, Decimal]]:
    """When fixed charges were billed in the invoices of a month, and how many units."""
    query = (
        select(Fee.created_at, Fee.units)
        .join(Invoice, Invoice.id == Fee.invoice_id)
        .where(Fee.organization_id == owner, Fee.fixed_charge_id.is_not(None), Fee.from_datetime >= since)
        .order_by(Invoice.sequential_id, Fee.position)
    )
    return [(at, units) for at, units in db.execute(query)]


def asks_for_units(statement: str) -> bool:
    """Whether a statement reads units, or the fees that fixed charges have had."""
    return "FROM subscription_units" in statement or ("FROM fees" in statement and "fixed_charges" in statement)


@pytest.mark.parametrize("count", [2, 40])
def test_the_statements_of_a_close_do_not_grow(postgres: Postgres, owner: UUID, count: int) -> None:
    with postgres.session() as db:
        sell(db, owner, fixed(pay_in_advance=True), fixed(prorated=True))
    for number in range(count):
        with postgres.session() as db:
            subscribe(db, owner, f"s{number}")

    def run() -> None:
        with postgres.session() as db:
            assert close(db, owner) == count

    sent = statements(postgres, run)
    assert len(sent) <= 45
    assert len([one for one in sent if asks_for_units(one)]) == 2
    with postgres.session() as db:
        assert len(billed(db, owner, JULY)) == count
        assert len(billed(db, owner)) == 3 * count


def test_new_units_of_many_subscriptions_take_a_few_statements(postgres: Postgres, owner: UUID) -> None:
    with postgres.session() as db:
        sell(db, owner, fixed(pay_in_advance=True))
    sent = []
    for upto in (2, 40):
        for number in range(upto if upto == 2 else 2, upto):
            with postgres.session() as db:
                subscribe(db, owner, f"s{number}")
        for number in range(2 if upto == 2 else 0):
            with postgres.session() as db:
                subscribe(db, owner, f"s{number}")

        def run(units: int = 10 + upto) -> None:
            with postgres.session() as db:
                raise_plan(db, owner, units)

        sent.append(len(statements(postgres, run)))
    assert sent[0] == sent[1] <= 40
    with postgres.session() as db:
        assert sum(units for _, units in billed(db, owner)) == 2 * 50 + 38 * 50


def test_a_plan_without_fixed_charges_asks_for_no_units(postgres: Postgres, owner: UUID) -> None:
    with postgres.session() as db:
        sell(db, owner)
        subscribe(db, owner, "sub")

    def run() -> None:
        with postgres.session() as db:
            assert close(db, owner) == 1

    assert not [one for one in statements(postgres, run) if asks_for_units(one)]


@pytest.mark.parametrize(
    ("prorated", "units", "expected"), [(False, 15, [10, 15]), (False, 4, [10, 4]), (True, 15, [10, 15])]
)
def test_a_change_before_the_period_is_opened_is_billed_once(
    postgres: Postgres, owner: UUID, prorated: bool, units: int, expected: list[int]
) -> None:
    """The close of a live period runs a little later; what is changed until then it bills itself."""
    with postgres.session() as db:
        sell(db, owner, fixed(pay_in_advance=True, prorated=prorated))
        subscribe(db, owner, "sub")
    with postgres.session() as db:
        raise_own(db, owner, units, FIVE_PAST)
        assert len(billed(db, owner)) == 1
    with postgres.session() as db:
        assert close(db, owner) == 1
        assert [count for _, count in billed(db, owner)] == expected
    with postgres.session() as db:
        raise_own(db, owner, 20, FIVE_PAST + timedelta(hours=1))
        assert [count for _, count in billed(db, owner)] == [*expected, 20 - expected[-1]]


def in_parallel(postgres: Postgres, first: Callable[[Session], object], second: Callable[[Session], object]) -> None:
    """Do the second in another thread while the first is done and not committed; the second must wait for it."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with postgres.session() as db:
                second(db)
        except BaseException as error:  # noqa: BLE001 (told by the test's own thread)
            failed.append(error)

    thread = threading.Thread(target=run)
    with postgres.session() as db:
        first(db)
        db.flush()
        thread.start()
        wait_for(lambda: failed or somebody_waits(postgres), "waiting for the other", 20)
    thread.join(30)
    assert not failed


@pytest.mark.parametrize("change", [raise_own, raise_plan])
def test_new_units_wait_for_a_close(
    postgres: Postgres, owner: UUID, change: Callable[[Session, UUID, int, datetime], None]
) -> None:
    with postgres.session() as db:
        sell(db, owner, fixed(pay_in_advance=True))
        subscribe(db, owner, "sub")
    in_parallel(postgres, lambda db: close(db, owner), lambda db: change(db, owner, 15, FIVE_PAST))
    with postgres.session() as db:
        assert [count for _, count in billed(db, owner, JULY)] == [10, 5]


@pytest.mark.parametrize("change", [raise_own, raise_plan])
def test_a_close_leaves_out_whose_units_change(
    postgres: Postgres, owner: UUID, change: Callable[[Session, UUID, int, datetime], None]
) -> None:
    with postgres.session() as db:
        sell(db, owner, fixed(pay_in_advance=True))
        subscribe(db, owner, "sub")
    with postgres.session() as changing:
        change(changing, owner, 15, FIVE_PAST)
        with postgres.session() as closing:
            assert close(closing, owner) == 0
    with postgres.session() as db:
        assert close(db, owner) == 1
        assert [count for _, count in billed(db, owner, JULY)] == [15]


def test_a_start_waits_for_a_change_of_its_plan(postgres: Postgres, owner: UUID) -> None:
    with postgres.session() as db:
        sell(db, owner, fixed(pay_in_advance=True))
    in_parallel(postgres, lambda db: raise_plan(db, owner, 15), lambda db: subscribe(db, owner, "sub"))
    with postgres.session() as db:
        assert [count for _, count in billed(db, owner)] == [15]


def test_a_change_of_a_plan_waits_for_a_start(postgres: Postgres, owner: UUID) -> None:
    with postgres.session() as db:
        sell(db, owner, fixed(pay_in_advance=True))
    in_parallel(postgres, lambda db: subscribe(db, owner, "sub"), lambda db: raise_plan(db, owner, 15))
    with postgres.session() as db:
        assert [count for _, count in billed(db, owner)] == [10, 5]
        started = db.scalars(select(Subscription.started_at).where(Subscription.organization_id == owner)).one()
        assert started == JUNE
        rows = select(func.count()).where(SubscriptionUnits.organization_id == owner)
        assert db.scalar(rows) == 2


def put_on_a_copy(db: Session, owner: UUID) -> Plan:
    """Put the subscription on a copy of its plan."""
    plan = find_plan(db, owner, "plan", lock=True)
    same = ("organization_id", "code", "name", "interval", "amount_cents", "amount_currency", "pay_in_advance")
    copy = Plan(parent_id=plan.id, created_at=JUNE, updated_at=JUNE, plan_metadata={}, taxes=[],
                **{name: getattr(plan, name) for name in same})  # fmt: skip
    db.add(copy)
    db.flush()
    copy_fixed_charges(db, plan.fixed_charges, [copy], JUNE)
    find_subscription(db, owner, "sub", None).plan_id = copy.id
    return copy


def shown(db: Session, plan_id: UUID) -> dict[str, tuple[Decimal, object]]:
    """The units and prices of a plan's fixed charges."""
    plan = db.get_one(Plan, plan_id)
    charges = db.scalars(fixed_charges_of(plan).execution_options(populate_existing=True))
    return {one.code: (one.units, one.properties["amount"]) for one in charges}


def test_a_copy_of_the_plan_keeps_units_and_what_was_billed(postgres: Postgres, owner: UUID) -> None:
    with postgres.session() as db:
        sell(db, owner, fixed(pay_in_advance=True), fixed(pay_in_advance=True, code="own"))
        subscribe(db, owner, "sub")
    with postgres.session() as db:
        subscription = find_subscription(db, owner, "sub", None)
        override_fixed_charge(db, subscription, "own", {"units": Decimal(3)}, JUNE)
    with postgres.session() as db:
        copy_id = put_on_a_copy(db, owner).id
    with postgres.session() as db:
        raise_plan(db, owner, 50)
        assert [count for _, count in billed(db, owner)] == [10, 10]
        raise_own(db, owner, 15)
        assert [count for _, count in billed(db, owner)] == [10, 10, 5]
    with postgres.session() as db:
        assert close(db, owner) == 1
        assert [count for _, count in billed(db, owner, JULY)] == [15, 3]
        parents = db.scalars(fixed_charges_of(db.get_one(Plan, copy_id)))
        assert {one.parent_id for one in parents} == {
            one.id for one in fixed_charges_of_plan(db, find_bare_plan(db, owner, "plan"))
        }


@pytest.mark.parametrize("cascades", [False, True])
def test_copies_follow_in_a_cascade_where_they_were_the_same(postgres: Postgres, owner: UUID, cascades: bool) -> None:
    codes = ("same", "other price", "other units", "gone")
    with postgres.session() as db:
        sell(db, owner, *(fixed(code=code, pay_in_advance=True) for code in codes))
        subscribe(db, owner, "sub")
        copy_id = put_on_a_copy(db, owner).id
    with postgres.session() as db:
        of_copy = {one.code: one for one in fixed_charges_of_plan(db, db.get_one(Plan, copy_id))}
        of_copy["other price"].properties = {"amount": "9"}
        of_copy["other units"].units = Decimal(7)
    with postgres.session() as db:
        plan = find_bare_plan(db, owner, "plan", lock=True)
        kept = [one for one in fixed_charges_of_plan(db, plan) if one.code != "gone"]
        change = {"units": Decimal(12), "properties": {"amount": "2"}, **AT_ONCE}
        sent = [{"id": str(one.id), **change} for one in kept] + [fixed(code="new", pay_in_advance=True, **AT_ONCE)]
        write_fixed_charges(db, plan, sent, in_use=True, now=JUNE, cascades=cascades)
    as_it_was = {"same": (10, "1"), "other price": (10, "9"), "other units": (7, "1"), "gone": (10, "1")}
    followed = {"same": (12, "2"), "other price": (12, "9"), "other units": (7, "2"), "new": (10, "1")}
    with postgres.session() as db:
        assert shown(db, copy_id) == (followed if cascades else as_it_was)
        assert [count for _, count in billed(db, owner)] == [10] * 4 + ([2, 2, 10] if cascades else [])
        plan = find_bare_plan(db, owner, "plan", lock=True)
        remove_fixed_charge(db, plan, find_fixed_charge(db, plan, "same"), JUNE, cascades=cascades)
        assert ("same" in shown(db, copy_id)) is not cascades


def fixed_charges_of_plan(db: Session, plan: Plan) -> list[FixedCharge]:
    return list(db.scalars(fixed_charges_of(plan).execution_options(populate_existing=True)))
