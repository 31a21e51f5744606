"""What a change of the catalog leaves for others: its version, the keys that usage is split by, and terms to bill."""

import threading
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from app.billing.book import load_plans
from app.catalog.changes import changed_metrics
from app.catalog.charges import find_charge, remove_charge, write_charge, write_filter
from app.catalog.copies import copy_charges, copy_plan
from app.catalog.dimensions import refresh_dimensions
from app.catalog.metrics import create_metric, delete_metric, find_metric, lock_metrics, update_metric
from app.catalog.plans import create_plan, delete_plan, find_bare_plan, find_plan, update_plan
from app.catalog.taxes import apply_to_organization, delete_tax, find_tax
from app.core.buckets import Bucket
from app.customers.billing_entities import default_entity, update_entity
from app.customers.organizations import create_organization
from app.errors import Invalid
from app.models import BillableMetric, ChargeFilter, Organization, Plan, Tax
from app.stores.postgres import Postgres

NOW = datetime(2024, 5, 1, tzinfo=UTC)
REGIONS = [{"key": "region", "values": ["us", "eu"]}]
PLAN = {"name": "P", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR", "pay_in_advance": False}


@pytest.fixture
def owner(postgres: Postgres) -> UUID:
    """A fresh organization with the metric `calls`, which has regions."""
    with postgres.session() as db:
        organization, _ = create_organization(db, name="Owner", now=NOW)
    with postgres.session() as db:
        metric = {"name": "Calls", "code": "calls", "aggregation_type": "sum_agg", "field_name": "n"}
        create_metric(db, organization.id, {**metric, "filters": REGIONS}, NOW)
    return organization.id


def version(postgres: Postgres, owner: UUID) -> int:
    with postgres.session() as db:
        return db.get_one(Organization, owner).catalog_version


def make_plan(db: Session, owner: UUID, code: str = "plan", **charge: Any) -> Plan:
    """A plan with one charge at 1 per unit; `charge` has what else it has."""
    properties = {"amount": "1", **charge.pop("properties", {})}
    metric = find_metric(db, owner, "calls")
    sent = {"billable_metric_id": str(metric.id), "charge_model": "standard", "properties": properties, **charge}
    return create_plan(db, owner, {**PLAN, "code": code, "charges": [sent]}, NOW)


def change(db: Session, owner: UUID, code: str = "plan", **charge: Any) -> None:
    plan = find_bare_plan(db, owner, code, lock=True)
    write_charge(db, plan, find_charge(db, plan, "calls"), charge, in_use=True, now=NOW)


def keys(postgres: Postgres, owner: UUID) -> tuple[list[str], bool]:
    with postgres.session() as db:
        metric = find_metric(db, owner, "calls")
        return metric.dimension_keys, metric.dimensions_pending


def settle(postgres: Postgres, owner: UUID) -> None:
    """As if what is stored had been split by the present keys."""
    with postgres.session() as db:
        find_metric(db, owner, "calls").dimensions_pending = False


class TestVersion:
    def test_every_transaction_that_changes_something_raises_it_once(self, postgres: Postgres, owner: UUID) -> None:
        before = version(postgres, owner)

        def raised(action: Any) -> int:
            nonlocal before
            with postgres.session() as db:
                action(db)
                db.flush()
            was, before = before, version(postgres, owner)
            return before - was

        def add_tax(db: Session) -> None:
            db.add(
                Tax(organization_id=owner, code="vat", name="VAT", rate=20, created_at=NOW, updated_at=NOW)
            )  # fmt: skip

        def filtered(db: Session) -> None:
            plan = find_bare_plan(db, owner, "plan", lock=True)
            changes = {"values": {"region": ["us"]}, "properties": {"amount": "2"}}
            write_filter(db, plan, find_charge(db, plan, "calls"), None, changes, NOW)

        def without_charges(db: Session) -> None:
            plan = find_bare_plan(db, owner, "plan", lock=True)
            remove_charge(db, plan, find_charge(db, plan, "calls"), NOW)

        assert raised(add_tax) == 1
        assert raised(lambda db: update_entity(db, default_entity(db, owner), {"tax_codes": ["vat"]}, NOW)) == 1
        assert raised(lambda db: update_entity(db, default_entity(db, owner), {"tax_codes": ["vat"]}, NOW)) == 0
        assert raised(lambda db: apply_to_organization(db, find_tax(db, owner, "vat"), False)) == 1
        assert raised(lambda db: make_plan(db, owner)) == 1
        assert raised(filtered) == 1
        assert raised(lambda db: change(db, owner, properties={"amount": "3"})) == 1
        assert raised(lambda db: update_plan(db, find_plan(db, owner, "plan"), {"tax_codes": ["vat"]}, NOW)) == 1
        assert raised(lambda db: update_metric(db, find_metric(db, owner, "calls"), {"name": "New"}, NOW)) == 1
        assert raised(lambda db: find_plan(db, owner, "plan")) == 0
        assert raised(without_charges) == 1
        assert raised(lambda db: delete_metric(db, find_metric(db, owner, "calls"), NOW, NOW)) == 1
        assert raised(lambda db: delete_plan(db, find_plan(db, owner, "plan"), NOW)) == 1
        assert (
            raised(lambda db: delete_tax(db.scalars(select(Tax).where(Tax.organization_id == owner)).one(), NOW)) == 1
        )

    def test_nothing_else_raises_it(self, postgres: Postgres, owner: UUID) -> None:
        before = version(postgres, owner)
        with postgres.session() as db:
            db.get_one(Organization, owner).name = "Renamed"
            update_entity(db, default_entity(db, owner), {"name": "Renamed", "timezone": "Asia/Tokyo"}, NOW)
        with postgres.session() as db:
            other, _ = create_organization(db, name="Other", now=NOW)
        with postgres.session() as db:
            create_metric(db, other.id, {"name": "x", "code": "x", "aggregation_type": "count_agg"}, NOW)

        def twice() -> None:
            with postgres.session() as db:
                make_plan(db, owner)
                make_plan(db, owner)

        with pytest.raises(Invalid):
            twice()
        assert (version(postgres, owner), version(postgres, other.id)) == (before, 1)


class TestDimensionKeys:
    def test_they_are_what_charges_ask_for(self, postgres: Postgres, owner: UUID) -> None:
        assert keys(postgres, owner) == (["region"], False)
        filters = [{"values": {"region": ["us"]}, "properties": {"amount": "1", "grouped_by": ["zone"]}}]
        with postgres.session() as db:
            make_plan(db, owner, properties={"pricing_group_keys": ["team", "region"]}, filters=filters)
            assert changed_metrics(db) == {(owner, "calls")}
        assert keys(postgres, owner) == (["region", "team", "zone"], True)
        settle(postgres, owner)
        with postgres.session() as db:
            make_plan(db, owner, "other", properties={"presentation_group_keys": [{"value": "desk"}]})
        assert keys(postgres, owner) == (["desk", "region", "team", "zone"], True)
        settle(postgres, owner)
        with postgres.session() as db:
            change(db, owner, accepts_target_wallet=True)
        assert keys(postgres, owner)[0] == ["desk", "region", "target_wallet_code", "team", "zone"]

    def test_what_nobody_asks_for_is_dropped(self, postgres: Postgres, owner: UUID) -> None:
        with postgres.session() as db:
            make_plan(db, owner, properties={"pricing_group_keys": ["team"]})
            make_plan(db, owner, "other", properties={"pricing_group_keys": ["team", "desk"]})
        settle(postgres, owner)
        with postgres.session() as db:
            change(db, owner, "other", properties={"amount": "1"})
            assert changed_metrics(db) == {(owner, "calls")}
        assert keys(postgres, owner) == (["region", "team"], False)
        with postgres.session() as db:
            plan = find_bare_plan(db, owner, "plan", lock=True)
            remove_charge(db, plan, find_charge(db, plan, "calls"), NOW)
        assert keys(postgres, owner) == (["region"], False)
        with postgres.session() as db:
            update_metric(db, find_metric(db, owner, "calls", lock=True), {"filters": []}, NOW)
        assert keys(postgres, owner) == ([], False)

    def test_none_is_dropped_while_usage_is_being_split(self, postgres: Postgres, owner: UUID) -> None:
        """Else a key that goes and comes back could be taken for one that was there all the time."""
        with postgres.session() as db:
            make_plan(db, owner, properties={"pricing_group_keys": ["team"]})
        with postgres.session() as db:
            change(db, owner, properties={"amount": "1"})
        assert keys(postgres, owner) == (["region", "team"], True)
        settle(postgres, owner)
        with postgres.session() as db:
            change(db, owner, properties={"amount": "2"})
        assert keys(postgres, owner) == (["region"], False)

    def test_overrides_ask_too_and_deleted_plans_do_not(self, postgres: Postgres, owner: UUID) -> None:
        with postgres.session() as db:
            parent = make_plan(db, owner)
            child = make_plan(db, owner, "child", properties={"pricing_group_keys": ["team"]})
            child.parent_id = parent.id
            delete_plan(db, make_plan(db, owner, "gone", properties={"pricing_group_keys": ["desk"]}), NOW)
        settle(postgres, owner)
        with postgres.session() as db:
            metric = find_metric(db, owner, "calls")
            refresh_dimensions(db, [metric])
            assert metric.dimension_keys == ["region", "team"]

    def test_a_change_that_changes_no_key_tells_nobody(self, postgres: Postgres, owner: UUID) -> None:
        with postgres.session() as db:
            make_plan(db, owner, properties={"pricing_group_keys": ["region"]})
            change(db, owner, properties={"amount": "2"})
            assert changed_metrics(db) == set()


def test_a_plan_that_waits_for_its_metric_sees_what_was_trimmed(postgres: Postgres, owner: UUID) -> None:
    """A charge is changed while a value leaves the metric: the change is judged by what the metric lists then."""
    filters = [{"values": {"region": [one]}, "properties": {"amount": "1"}} for one in ("us", "eu")]
    with postgres.session() as db:
        make_plan(db, owner, filters=filters)
    outcome: list[list[str]] = []
    loaded = threading.Event()

    def rename() -> None:
        with postgres.session() as db:
            plan = find_plan(db, owner, "plan", lock=True)
            loaded.set()
            (charge,) = update_plan(
                db, plan, {"charges": [{"id": str(plan.charges[0].id), "invoice_display_name": "Calls"}]}, NOW
            ).charges
            outcome.extend(one.values["region"] for one in charge.filters)

    with postgres.session() as db:
        metric = find_metric(db, owner, "calls", lock=True)
        other = threading.Thread(target=rename)
        other.start()
        assert loaded.wait(30)
        update_metric(db, metric, {"filters": [{"key": "region", "values": ["eu", "asia"]}]}, NOW)
    other.join()
    assert outcome == [["eu"]]


def test_two_plans_on_the_same_metrics_do_not_block_each_other_for_good(postgres: Postgres, owner: UUID) -> None:
    """Metrics are locked in one order, whatever order the charges stand in."""
    with postgres.session() as db:
        second = {"name": "Second", "code": "second", "aggregation_type": "count_agg"}
        ids = [str(find_metric(db, owner, "calls").id), str(create_metric(db, owner, second, NOW).id)]

    def charges(order: list[str], key: str) -> list[dict[str, Any]]:
        properties = {"amount": "1", "pricing_group_keys": [key]}
        return [{"billable_metric_id": one, "charge_model": "standard", "properties": properties} for one in order]

    def make(number: int) -> None:
        order = ids if number % 2 else ids[::-1]
        with postgres.session() as db:
            create_plan(db, owner, {**PLAN, "code": f"p{number}", "charges": charges(order, f"k{number % 3}")}, NOW)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    with postgres.session() as db:
        assert len(db.scalars(select(Plan).where(Plan.organization_id == owner)).all()) == 8
        locked = lock_metrics(db, owner, {UUID(one) for one in ids})
        assert sorted(locked[UUID(ids[1])].dimension_keys) == ["k0", "k1", "k2"]


def test_deleting_a_metric_takes_its_charges_and_their_filters(postgres: Postgres, owner: UUID) -> None:
    with postgres.session() as db:
        make_plan(db, owner, filters=[{"values": {"region": ["us"]}, "properties": {"amount": "1"}}])
    with postgres.session() as db:
        delete_metric(db, find_metric(db, owner, "calls", lock=True), NOW, NOW)
    with postgres.session() as db:
        assert find_plan(db, owner, "plan").charges == []
        filters = db.scalars(select(ChargeFilter).where(ChargeFilter.organization_id == owner)).all()
        assert [one.deleted_at for one in filters] == [NOW]
        assert db.scalars(select(BillableMetric).where(BillableMetric.organization_id == owner)).one().deleted_at == NOW


class TestTerms:
    def test_filters_are_as_old_as_they_are_whatever_order_they_stand_in(self, postgres: Postgres, owner: UUID) -> None:
        """Two overlapping filters made in one request: the first of them stays the oldest when the list is turned round."""
        regions = [["us", "eu"], ["eu"], ["__ALL_FILTER_VALUES__"]]
        filters = [{"values": {"region": one}, "properties": {"amount": "2", "grouped_by": one}} for one in regions]
        with postgres.session() as db:
            plan = make_plan(db, owner, filters=filters, properties={"pricing_group_keys": ["team"]})
            turned = {"id": str(plan.charges[0].id), "filters": [{"values": one["values"]} for one in filters[::-1]]}
            update_plan(db, plan, {"charges": [turned]}, NOW)
        with postgres.session() as db:
            (charge,) = load_plans(db, [plan.id])[plan.id].charges
        assert [one.values_as_sent["region"] for one in charge.filters] == regions
        assert [regions[index] for index in charge.display_order] == regions[::-1]
        assert [one.display_name for one in charge.filters] == ["us, eu", "eu", "region"]
        assert [one.group_keys for one in charge.filters] == [("us", "eu"), ("eu",), ("__ALL_FILTER_VALUES__",)]

        def bucket(**values: str) -> Bucket:
            return charge.splitter.bucket([values.get(key) for key in charge.splitter.keys])

        assert bucket(region="us", team="a").filter == 0  # the same values as all of them: the older one
        assert bucket(region="eu").filter == 1
        assert bucket(region="mars", team="a") == Bucket(None, ("a",))

    def test_the_number_of_queries_is_fixed(self, postgres: Postgres, owner: UUID) -> None:
        regions = [{"values": {"region": [one]}, "properties": {"amount": "1"}} for one in ("us", "eu")]
        with postgres.session() as db:
            plans = [make_plan(db, owner, f"p{number}", filters=regions[: number % 3]).id for number in range(7)]

        def queries(ids: list[UUID]) -> int:
            asked: list[str] = []

            def note(*arguments: Any) -> None:
                asked.append(arguments[2])

            event.listen(postgres.engine, "before_cursor_execute", note)
            try:
                with postgres.session() as db:
                    load_plans(db, ids)
            finally:
                event.remove(postgres.engine, "before_cursor_execute", note)
            return len(asked)

        assert queries(plans) == queries(plans[2:3]) <= 12
        with postgres.session() as db:
            of = find_plan(db, owner, "p2")
            fields = {**PLAN, "code": "p2", "parent_id": of.id, "created_at": NOW, "updated_at": NOW}
            copies = [Plan(id=uuid4(), organization_id=owner, **fields) for _ in range(1_100)]
            db.add_all(copies)
            db.flush()
            plans += [copy.id for copy in copies]
            copy_charges(db, [charge.id for charge in of.charges], plans[7:], NOW)
        assert queries(plans) == queries(plans[2:3])

    def test_copies_are_priced_as_what_they_are_copies_of(self, postgres: Postgres, owner: UUID) -> None:
        regions = [["us", "eu"], ["eu"]]
        filters = [{"values": {"region": one}, "properties": {"amount": "2", "grouped_by": one}} for one in regions]
        with postgres.session() as db:
            plan = make_plan(db, owner, filters=filters, properties={"pricing_group_keys": ["team"]}, prorated=False)
            removed = {"id": str(plan.charges[0].id), "filters": [filters[1], filters[0]]}
            update_plan(db, plan, {"charges": [removed]}, NOW)
            copy_id = copy_plan(db, plan, NOW)
        with postgres.session() as db:
            terms = load_plans(db, [plan.id, copy_id])
        (one,), (copy,) = terms[plan.id].charges, terms[copy_id].charges
        assert copy.price is one.price  # compiled once
        assert [of.price for of in copy.filters] == [of.price for of in one.filters]
        assert [of.values_as_sent for of in copy.filters] == [of.values_as_sent for of in one.filters]
        assert (copy.display_order, copy.group_keys, copy.code) == (one.display_order, one.group_keys, one.code)
