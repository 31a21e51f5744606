"""Thousands of subscriptions of several kinds, and what they must be billed: worked out here, without the service."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import NamedTuple

import httpx
from sqlalchemy import Connection, text

from app.models.base import Base
from tests.copying import copies
from tests.crashing import FIELDS, METRICS, units_by_metric
from tests.factories import (
    Json,
    event,
    give_coupon,
    make_coupon,
    make_customer,
    make_entity,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    make_wallet,
    send_events,
    standard,
)

WEEK = timedelta(weeks=1)
BOUNDARIES = 2
BATCH = 10_000
TABLES = Base.metadata.tables

PLANS = {"arrears": 1_000, "advance": 700}
"""What a week costs besides its usage, in cents."""
CALL, PEAK = Decimal("0.013"), Decimal("0.00007")
TIER = 50_000
TIERS = [
    {"from_value": 0, "to_value": TIER, "per_unit_amount": "0.0002", "flat_amount": "0.5"},
    {"from_value": TIER + 1, "to_value": None, "per_unit_amount": "0.0001", "flat_amount": "1.25"},
]
SIZE, FREE, PACKAGE = 3, 1, Decimal("1.1")
TAXES = {"general": Decimal(19), "swiss": Decimal("8.1"), "local": Decimal("2.5")}
"""The first is that of customers without any."""


@dataclass(frozen=True)
class Coupon:
    """What a coupon takes: `cents` until they are used up, or a `rate` in percent, where told of so many invoices only."""

    code: str
    cents: int = 0
    rate: Decimal = Decimal(0)
    invoices: int | None = None


@dataclass(frozen=True)
class Kind:
    """One kind of customer: a subscription on each of its plans, `apart` on invoices of their own."""

    plans: tuple[str, ...] = ("arrears",)
    apart: bool = False
    entity: str = "default"
    taxes: tuple[str, ...] = ()
    coupons: tuple[Coupon, ...] = ()
    wallet_cents: int = 0


FIXED = Coupon("fixed", cents=4_500)
ALWAYS = Coupon("always", rate=Decimal("12.5"))
FIRST = Coupon("first", rate=Decimal(10), invoices=1)
KINDS = {
    "plain": Kind(),
    "ahead": Kind(("advance",)),
    "both": Kind(("arrears", "advance")),
    "apart": Kind(("arrears", "arrears"), apart=True, entity="branch", taxes=("swiss",)),
    "cheap": Kind(coupons=(FIXED, ALWAYS)),
    "prepaid": Kind(("arrears", "advance"), wallet_cents=6_000),
    "mixed": Kind(entity="branch", taxes=("swiss", "local"), coupons=(FIRST,), wallet_cents=4_000),
}


class Bill(NamedTuple):
    """What an invoice comes to, in cents; its fees that are not 0 by subscription and item, its coupons by code."""

    fees: tuple[tuple[str, str, int], ...]
    coupons: tuple[tuple[str, int], ...]
    taxes_cents: int
    prepaid_cents: int
    total_cents: int


Key = tuple[str, datetime, tuple[str, ...]]
"""An invoice: its customer, its boundary, its subscriptions."""


@dataclass
class World:
    """Customers named by kind and number, each with its subscriptions. The first boundary is a week after `start`."""

    each: int
    start: datetime
    events: dict[tuple[str, int], list[Json]] = field(default_factory=lambda: defaultdict(list))
    """By subscription and week."""

    @property
    def boundaries(self) -> list[datetime]:
        return [self.start + WEEK * number for number in range(1, BOUNDARIES + 1)]

    @property
    def customers(self) -> Iterator[tuple[str, Kind]]:
        return ((f"{name}-{number}", kind) for name, kind in KINDS.items() for number in range(self.each))

    @property
    def subscriptions(self) -> Iterator[str]:
        return (f"{customer}-{place}" for customer, kind in self.customers for place in range(len(kind.plans)))

    def fill(self, api: httpx.Client, database: Connection, chance: random.Random) -> None:
        """Make one customer of each kind and the events over HTTP, and the other customers as copies of the first ones."""
        self._make_catalog(api)
        for name, kind in KINDS.items():
            self._make_customer(api, f"{name}-0", kind)
        self._send(api, chance)
        organization = api.get("/api/v1/organizations").json()["organization"]["lago_id"]
        _copy(database, organization, self.each)
        database.execute(
            text("UPDATE subscriptions SET next_billing_at = :first WHERE organization_id = :organization"),
            {"first": self.boundaries[0], "organization": organization},
        )
        database.commit()

    def _make_catalog(self, api: httpx.Client) -> None:
        for code, rate in TAXES.items():
            make_tax(api, code, str(rate), applied_to_organization=code == "general")
        make_entity(api, "branch", document_numbering="per_billing_entity")
        metrics = {code: make_metric(api, code, kind, FIELDS.get(code)) for code, kind in METRICS.items()}
        package = {"amount": str(PACKAGE), "package_size": SIZE, "free_units": FREE}
        graduated = {"charge_model": "graduated", "properties": {"graduated_ranges": TIERS}}
        charges = [
            standard(metrics["calls"], str(CALL)),
            standard(metrics["bytes"], **graduated),
            standard(metrics["peak"], str(PEAK)),
            standard(metrics["users"], charge_model="package", properties=package),
        ]
        for code, amount in PLANS.items():
            ahead = code == "advance"
            make_plan(api, code, charges, interval="weekly", amount_cents=amount, pay_in_advance=ahead)
        make_coupon(api, FIXED.code, amount_cents=FIXED.cents)
        make_coupon(api, ALWAYS.code, percentage_rate=str(ALWAYS.rate), frequency="forever")
        once = {"frequency": "recurring", "frequency_duration": FIRST.invoices}
        make_coupon(api, FIRST.code, percentage_rate=str(FIRST.rate), **once)

    def _make_customer(self, api: httpx.Client, customer: str, kind: Kind) -> None:
        make_customer(api, customer, currency="EUR", billing_entity_code=kind.entity, tax_codes=list(kind.taxes))
        for place, plan in enumerate(kind.plans):
            order = {"purchase_order_number": f"order {place}"} if kind.apart else {}
            since = self.start.isoformat()
            time = {"subscription_at": since, "billing_time": "anniversary"}
            make_subscription(api, f"{customer}-{place}", plan, customer, **time, **order)
        for coupon in kind.coupons:
            give_coupon(api, coupon.code, customer)
        if kind.wallet_cents:
            make_wallet(api, customer, granted_credits=str(Decimal(kind.wallet_cents) / 100))

    def _send(self, api: httpx.Client, chance: random.Random) -> None:
        """Random events of every week and subscription; those of some are right at its ends."""
        batch: list[Json] = []
        for number, (subscription, week) in enumerate(
            (one, week) for one in self.subscriptions for week in range(BOUNDARIES)
        ):
            first = int((self.start + WEEK * week).timestamp() * 1_000)
            last = first + 7 * 86_400_000 - 1
            instants = [first, last] if number % 10 == 0 else []
            instants += [chance.randint(first, last) for _ in range(chance.randrange(20))]
            own = [_event(chance, subscription, f"{number}-{each}", at) for each, at in enumerate(instants)]
            self.events[subscription, week] = own
            batch += own
        for begin in range(0, len(batch), BATCH):
            send_events(api, batch[begin : begin + BATCH])

    def bills(self) -> dict[Key, Bill]:
        """What there must be when all boundaries are closed."""
        found = {}
        for customer, kind in self.customers:
            account = _Account(kind)
            names = [f"{customer}-{place}" for place in range(len(kind.plans))]
            groups = [[name] for name in names] if kind.apart else [names]
            plans = dict(zip(names, kind.plans, strict=True))
            for week, boundary in enumerate(self.boundaries):
                for group in groups:
                    fees = [(name, *fee) for name in group for fee in self._fees(name, plans[name], week)]
                    found[customer, boundary, tuple(group)] = account.bill(fees)
        return found

    def _fees(self, subscription: str, plan: str, week: int) -> list[tuple[str, int]]:
        units = units_by_metric(self.events[subscription, week])
        return [(plan, PLANS[plan]), *((code, price(code, units[code])) for code in METRICS)]


def price(code: str, units: Decimal) -> int:
    """What so many units cost, in cents; nothing where they are below 0."""
    if units < 0:
        return 0
    match code:
        case "calls":
            amount = units * CALL
        case "peak":
            amount = units * PEAK
        case "users":
            packages = (max(units - FREE, Decimal(0)) / SIZE).to_integral_value(ROUND_CEILING)
            amount = packages * PACKAGE
        case _:
            amount = sum(
                part * Decimal(tier["per_unit_amount"]) + Decimal(tier["flat_amount"])
                for tier, part in zip(TIERS, (min(units, TIER), units - TIER), strict=True)
                if part > 0 or tier is TIERS[0]  # the first flat amount is due without any units, too
            )
    return _round(amount * 100)


class _Account:
    """What a customer still has of coupons and prepaid credits."""

    def __init__(self, kind: Kind):
        self._rates = [TAXES[code] for code in kind.taxes or ("general",)]
        self._coupons = kind.coupons
        self._invoices = 0
        self._fixed = {one.code: one.cents for one in kind.coupons if one.cents}
        self._wallet = kind.wallet_cents

    def bill(self, fees: Sequence[tuple[str, str, int]]) -> Bill:
        """Bill the next invoice: coupons, taxes on what is left of each fee, prepaid credits."""
        left = [Decimal(amount) for _, _, amount in fees]
        sub_total = sum(amount for _, _, amount in fees)
        taken = []
        for coupon in self._coupons:
            credit = self._take(coupon, sub_total)
            total = sum(left)
            left = [one - _round(credit * one / total, "0.00001") for one in left] if total else left
            sub_total -= credit
            if credit:
                taken.append((coupon.code, credit))
        taxes = _round(sum((one * rate / 100 for one in left for rate in self._rates), Decimal(0)))
        prepaid = min(self._wallet, sub_total + taxes)
        self._wallet -= prepaid
        self._invoices += 1
        shown = tuple(sorted(one for one in fees if one[2]))
        return Bill(shown, tuple(sorted(taken)), taxes, prepaid, sub_total + taxes - prepaid)

    def _take(self, coupon: Coupon, sub_total: int) -> int:
        if coupon.invoices is not None and self._invoices >= coupon.invoices:
            return 0
        if not coupon.cents:
            return _round(sub_total * coupon.rate / 100)
        credit = min(self._fixed[coupon.code], sub_total)
        self._fixed[coupon.code] -= credit
        return credit


def _round(amount: Decimal, step: str = "1") -> int | Decimal:
    rounded = amount.quantize(Decimal(step), ROUND_HALF_UP)
    return int(rounded) if step == "1" else rounded


def _event(chance: random.Random, subscription: str, transaction: str, at: int) -> Json:
    return event(
        chance.choice(list(METRICS)),
        subscription,
        f"{at // 1_000}.{at % 1_000:03d}",
        transaction,
        value=f"{chance.randint(-500, 90_000)}.{chance.randint(0, 99):02d}",
        user=f"user{chance.randrange(12)}",
        operation_type=chance.choice(["add", "add", "add", "remove"]),
    )


def _copy(database: Connection, organization: str, each: int) -> None:
    """Make of each customer with the number 0 so many, with all that they own."""
    own = {"organization": organization, "last": each - 1}
    name = "split_part({}.external_id, '-', {})"
    kind, place = name.format("template", 1), name.format("origin", 3)
    database.execute(
        copies(
            TABLES["customers"],
            {
                "external_id": f"{name.format('origin', 1)} || '-' || number",
                "sequential_id": "origin.sequential_id + 100 * number",
                "slug": "origin.slug || '-' || number",
            },
            "customers AS origin CROSS JOIN generate_series(1, :last) AS number"
            " WHERE origin.organization_id = :organization",
        ),
        own,
    )
    of_owner = (
        "JOIN customers AS template ON template.id = {}.customer_id JOIN customers AS owner"
        f" ON owner.organization_id = template.organization_id AND {name.format('owner', 1)} = {kind}"
        " AND owner.id <> template.id"
    )
    mine = " WHERE template.organization_id = :organization AND template.external_id LIKE '%-0'"
    for table, different in (
        ("subscriptions", {"external_id": f"owner.external_id || '-' || {place}"}),
        ("customer_taxes", {}),
        ("applied_coupons", {}),
        ("wallets", {}),
    ):
        source = f"{table} AS origin {of_owner.format('origin')}{mine}"
        database.execute(copies(TABLES[table], {"customer_id": "owner.id", **different}, source), own)
    source = (
        f"wallet_transactions AS origin JOIN wallets AS purse ON purse.id = origin.wallet_id {of_owner.format('purse')}"
        f" JOIN wallets AS copy ON copy.customer_id = owner.id{mine}"
    )
    database.execute(copies(TABLES["wallet_transactions"], {"wallet_id": "copy.id"}, source), own)
    database.execute(text("ANALYZE customers, subscriptions, applied_coupons, wallets, wallet_transactions"))
