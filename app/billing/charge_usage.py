"""What the charges of subscriptions come to: measured in a few queries for all of them, split into buckets and priced.

The one way from usage to amounts, for invoices as for current usage (metering spec 2.8, 3.4, 3.5, 3.7, 3.9, 3.10).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

from app.billing.adjustments import Adjustment
from app.billing.billed import BilledSubscription
from app.billing.terms import ChargeFilterTerms, ChargeTerms
from app.core.aggregation import Aggregation, Sample, Units, round_units
from app.core.boundaries import Boundaries
from app.core.buckets import Bucket, Splitter
from app.core.charges.advance_level import Level
from app.core.charges.events import runs as runs_of
from app.core.charges.fees import FeeAmounts, fee_amounts
from app.core.charges.pay_in_advance import HighWater, paid_units, prorated_paid_units
from app.core.charges.pricing_units import fiat_cents
from app.core.charges.projection import Progress, project
from app.core.charges.proration import ProratedUnits, prorate, prorate_sum
from app.core.charges.usage import BucketUsage, ChargeModel, PriceFunction, ones
from app.core.explanation.figures import Figures
from app.core.money import ZERO, exact, from_minor, minor_int
from app.core.values import replace
from app.metering.meter import Meter
from app.metering.usage import NOTHING, Events, Usage
from app.metering.windows import Split, Window, floor_ms, window

MILLISECOND = timedelta(milliseconds=1)
COUNTED = (Aggregation.COUNT, Aggregation.UNIQUE_COUNT)

Group = Mapping[str, str | None]
"""The values of group keys; None for an absent property."""


class Presented(NamedTuple):
    """The part of a bucket's units that has these values of the presentation keys."""

    by: Mapping[str, str]
    units: Decimal


class Projected(NamedTuple):
    """What a bucket will come to at the end of the period, if it goes on like this (metering spec 5.5). The amount is in
    minor units of the plan's currency; of a charge in pricing units, `pricing_unit_cents` is the same in these."""

    units: Decimal
    amount_cents: int
    pricing_unit_cents: int | None
    presented: tuple[Presented, ...]


class BucketFee(Struct, frozen=True):
    """One bucket of a charge, priced: its filter (None: the default bucket) and group, and what it comes to.

    `priced` are the amounts in what the charge's prices are in, `amounts` the same in the plan's currency; `figures`
    are what it was priced from.
    """

    filter: ChargeFilterTerms | None
    group: Group
    priced: FeeAmounts
    amounts: FeeAmounts
    total_aggregated_units: Decimal
    events_count: int
    presented: tuple[Presented, ...] = ()
    projected: Projected | None = None
    figures: Figures | None = None
    adjustment: Adjustment | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether it is no fee: it has neither units nor amount nor events (metering spec 3.10), and nobody adjusted it."""
        return self.adjustment is None and not (self.amounts.units or self.amounts.amount_cents or self.events_count)


class ChargeUsage(Struct, frozen=True):
    """A charge's buckets: filter by filter in their order, the default one last, those without usage included."""

    charge: ChargeTerms
    fees: tuple[BucketFee, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """How usage is looked at.

    `only`: keeps the events whose properties have one of these values; these keys no longer group. `skip_grouping`: one
    bucket per filter. `presentation_keys`: what is broken down, instead of what each charge says. `for_invoice`: breaks
    down by no more than what the charge shows on invoices. `project_at`: the instant that the usage so far is of, to
    project it to the end of the period.
    """

    only: Mapping[str, Sequence[str]] | None = None
    skip_grouping: bool = False
    presentation_keys: Sequence[str] | None = None
    for_invoice: bool = False
    project_at: datetime | None = None


AS_SHOWN = Options()
AS_BILLED = Options(for_invoice=True)

ALL = Bucket(None)
"""The one bucket of a charge without filters and groups."""

Item = tuple[BilledSubscription, Boundaries]
Texts = tuple[str | None, ...]


class PaidBucket(NamedTuple):
    """What has been paid in advance in a bucket of a charge: its filter and group, and where the period stands."""

    filter_id: UUID | None
    group: Group
    level: Level


Paid = Mapping[tuple[UUID, UUID], Sequence[PaidBucket]]
"""What has been paid in advance in the periods that are looked at, by subscription and charge."""


class _Wanted:
    """A splitter of only those events that have one of the values wanted; the others are in no bucket."""

    def __init__(self, splitter: Splitter, only: Mapping[str, Sequence[str]]):
        self._splitter = splitter
        self.keys = tuple(sorted({*splitter.keys, *only}))
        self._places = [self.keys.index(key) for key in splitter.keys]
        self._wanted = [(self.keys.index(key), frozenset(values)) for key, values in only.items()]

    def bucket(self, values: tuple[str, ...]) -> Bucket | None:
        if any(values[place] not in wanted for place, wanted in self._wanted):
            return None
        return self._splitter.bucket([values[place] for place in self._places])


def last_instant(subscription: BilledSubscription, boundaries: Boundaries) -> datetime:
    """Until when events are a period's: one at the very instant of an upgrade is the new subscription's (metering spec
    6.12)."""
    return boundaries.charges_to - MILLISECOND if subscription.ended_by_upgrade else boundaries.charges_to


def charge_window(
    subscription: BilledSubscription, charge: ChargeTerms, boundaries: Boundaries, split: Split
) -> Window:
    """The events of a charge in a period, split into buckets."""
    return window(
        subscription.organization_id,
        subscription.external_id,
        charge.metric_code,
        charge.aggregation,
        boundaries.charges_from,
        last_instant(subscription, boundaries),
        recurring=charge.recurring,
        period_days=boundaries.charges_period_days,
        split=split,
        from_raw=charge.dimensions_pending or not charge.dimension_keys.issuperset(split.keys),
    )


class _View:
    """A charge as it is looked at, whosever usage it is: what groups it, what breaks it down, and what splits it."""

    def __init__(self, charge: ChargeTerms, options: Options):
        self.charge = charge
        self.only = options.only or {}
        self.renews = options.for_invoice
        self.project_at = options.project_at
        self._ungrouped = options.skip_grouping
        own = charge.invoice_presentation_keys if options.for_invoice else charge.presentation_keys
        self.presentation_keys = own if options.presentation_keys is None else tuple(options.presentation_keys)
        self.groups = [self._group_keys(one.group_keys) for one in charge.filters]
        self.own_group = self._group_keys(charge.group_keys)
        self.is_whole = not self.groups and not self.own_group
        self.split = self._split(())
        self.split_further = self._split(self.presentation_keys)

    def _group_keys(self, keys: Sequence[str]) -> tuple[str, ...]:
        return () if self._ungrouped else tuple(key for key in keys if key not in self.only)

    def _split(self, presentation_keys: Sequence[str]) -> Split:
        """Into the buckets that are priced, or further by presentation keys."""
        charge = self.charge
        if self.only or self._ungrouped or presentation_keys:
            splitter = Splitter([one.values for one in charge.filters], self.own_group, self.groups, presentation_keys)
        else:
            splitter = charge.splitter
        return _Wanted(splitter, self.only) if self.only else splitter


class _Work:
    """One charge of one subscription, on its way from windows to prices."""

    __slots__ = ("_paid", "_parts", "boundaries", "charge", "events", "subscription", "usage", "view")

    def __init__(self, item: Item, view: _View, paid: Sequence[PaidBucket]):
        self.subscription, self.boundaries = item
        self.view, self.charge = view, view.charge
        self._paid = paid
        self.usage: Usage = {}
        self._parts: dict[tuple[int | None, Texts], list[tuple[Texts, Decimal]]] = {}
        self.events: Events = {}

    def window(self) -> Window:
        """The window of the charge, split into the buckets that are priced."""
        return charge_window(self.subscription, self.charge, self.boundaries, self.view.split)

    def window_of_parts(self) -> Window:
        """The same, split further by presentation keys."""
        return charge_window(self.subscription, self.charge, self.boundaries, self.view.split_further)

    def events_window(self) -> Window:
        """The window of the single events that the price looks at. A prorated sum knows what was carried over from its
        total; everything else is told by the events."""
        whole = self.window()
        return replace(whole, recurring=False) if self.charge.prorated and self._sums else whole

    @property
    def _sums(self) -> bool:
        return self.charge.aggregation is Aggregation.SUM

    def fees(self) -> tuple[BucketFee, ...]:
        """All buckets, priced; those that no event fell into too, for a price may be due without usage."""
        view = self.view
        if view.is_whole:
            return (self._fee(ALL),)
        by_filter: dict[int | None, list[Bucket]] = {}
        for bucket in self.usage:
            if isinstance(bucket, Bucket):
                by_filter.setdefault(bucket.filter, []).append(bucket)
        fees = []
        for index in (*self.charge.display_order, None):
            empty = Bucket(index, (None,) * len(view.own_group if index is None else view.groups[index]))
            fees += [self._fee(bucket) for bucket in sorted(by_filter.get(index, [empty]), key=_group_order)]
        return tuple(fees)

    def _fee(self, bucket: Bucket) -> BucketFee:
        charge, view = self.charge, self.view
        currency = self.subscription.plan.currency
        filter_ = None if bucket.filter is None else charge.filters[bucket.filter]
        keys = view.own_group if bucket.filter is None else view.groups[bucket.filter]
        units = self.usage.get(bucket, NOTHING)
        usage = self._bucket_usage(bucket, units, self.events.get(bucket, ()))
        price = filter_.price if filter_ else charge.price
        due = price(usage)
        priced = fee_amounts(usage, due, charge.priced_in(currency))
        amounts = charge.in_money(priced, currency)
        presented = self._presented(bucket)
        until = last_instant(self.subscription, self.boundaries)
        return BucketFee(
            filter=filter_,
            group=dict(zip(keys, bucket.group, strict=True)) if keys else {},
            priced=priced,
            amounts=amounts,
            total_aggregated_units=amounts.units if units.level is None else units.level,
            events_count=units.events_count,
            presented=presented,
            projected=self._projected(price, usage, presented, view.project_at) if view.project_at else None,
            figures=Figures.of(units, usage, due, self.boundaries.charges_period_days, floor_ms(until) + 1),
        )

    def _projected(
        self, price: PriceFunction, usage: BucketUsage, presented: Sequence[Presented], at: datetime
    ) -> Projected:
        charge, boundaries, currency = self.charge, self.boundaries, self.subscription.plan.currency
        progress = Progress.at(at, boundaries.charges_from, boundaries.charges_to, self.subscription.tz)
        model, priced_in = ChargeModel(charge.charge_model), charge.priced_in(currency)
        units, cents = project(model, price, usage, priced_in, progress, recurring=charge.recurring)
        parts = [part if charge.recurring else Presented(part.by, progress.projected(part.units)) for part in presented]
        if charge.pricing_unit is None:
            return Projected(units, cents, None, tuple(parts))
        money = minor_int(fiat_cents(cents, charge.pricing_unit.conversion_rate, currency))
        return Projected(units, money, cents, tuple(parts))

    def _bucket_usage(self, bucket: Bucket, units: Units, events: Sequence[Sample]) -> BucketUsage:
        """What was measured of a bucket, as the charge's price sees it."""
        charge = self.charge
        if charge.pay_in_advance:
            return self._paid_usage(bucket, units, events)
        if charge.prorated:
            prorated = self._prorated(units, events)
            return BucketUsage(
                units=self._rounded(prorated.units),
                events_count=units.events_count,
                full_units=self._rounded(prorated.full_units),
                waterfall=prorated.waterfall,
            )
        return bucket_usage(charge, units, self.subscription.plan.currency, events)

    def _paid_usage(self, bucket: Bucket, units: Units, events: Sequence[Sample]) -> BucketUsage:
        """Usage that is paid in advance is priced on what its events have been charged for (metering spec 5.3); an
        invoice, which bills what is carried over, on all of it."""
        usage = bucket_usage(self.charge, units, self.subscription.plan.currency, events)
        if self.view.renews:
            return usage
        levels = [one.level for one in self._paid if self._is_part(one, bucket)]
        with exact():
            water = HighWater(
                sum((one.water.current for one in levels), ZERO), sum((one.water.maximum for one in levels), ZERO)
            )
            billed = sum((one.prorated for one in levels), ZERO)
        if self.charge.prorated:
            paid = prorated_paid_units(units.units, water, billed, self.subscription.span(self.boundaries))
        else:
            paid = paid_units(units.units, water)
        return replace(usage, units=paid, full_units=usage.units)

    def _is_part(self, one: PaidBucket, bucket: Bucket) -> bool:
        """Whether what was paid in a bucket of the charge belongs to a bucket that is looked at."""
        filter_ = None if bucket.filter is None else self.charge.filters[bucket.filter]
        keys = self.view.own_group if bucket.filter is None else self.view.groups[bucket.filter]
        return (
            one.filter_id == (filter_.id if filter_ else None)
            and all(one.group.get(key) == value for key, value in zip(keys, bucket.group, strict=True))
            and all(one.group[key] in values for key, values in self.view.only.items() if key in one.group)
        )

    def _rounded(self, units: Decimal) -> Decimal:
        return round_units(units, self.charge.rounding_function, self.charge.rounding_precision)

    def _prorated(self, units: Units, events: Sequence[Sample]) -> ProratedUnits:
        charge, span = self.charge, self.subscription.span(self.boundaries)
        if self._sums:
            with exact():
                carried = units.units - sum((event.value for event in events), ZERO)
            return prorate_sum(carried, events, span)
        return prorate(charge.aggregation, events, span)

    def present(self, usage: Usage) -> None:
        """Take the usage that is split further by presentation keys."""
        for bucket, units in usage.items():
            if isinstance(bucket, Bucket):
                self._parts.setdefault(bucket[:2], []).append((bucket.presentation, units.units))

    def _presented(self, bucket: Bucket) -> tuple[Presented, ...]:
        if not self._parts:
            return ()
        return tuple(
            Presented({key: value or "" for key, value in zip(self.view.presentation_keys, values, strict=True)}, units)
            for values, units in sorted(self._parts.get(bucket[:2], ()), key=lambda part: _order(part[0]))
        )


def charge_usage(
    meter: Meter, items: Sequence[Item], options: Options, paid: Paid | None = None
) -> list[list[ChargeUsage]]:
    """The usage of all charges of each item, in the order of its plan, in a number of queries that does not grow. `paid` is
    needed where charges paid in advance are to come to what has been paid; each subscription has one item then."""
    charges = {id(charge): charge for charge in _charges(items)}
    views = {key: _View(charge, options) for key, charge in charges.items()}
    known = paid or {}
    of_items = [
        [
            _Work(item, views[id(charge)], known.get((item[0].id, charge.id), ()) if known else ())
            for charge in item[0].plan.charges
        ]
        for item in items
    ]
    work = [one for works in of_items for one in works]
    presenting = [one for one in work if one.view.presentation_keys]
    windows = [one.window() for one in work]
    windows += [one.window_of_parts() for one in presenting]
    measured = iter(meter.usage(windows))
    for one in work:
        one.usage = next(measured)
    for one in presenting:
        one.present(next(measured))
    singly = [one for one in work if one.charge.needs_events]
    for one, events in zip(singly, meter.events([one.events_window() for one in singly]), strict=True):
        one.events = events
    return [[ChargeUsage(one.charge, one.fees()) for one in works] for works in of_items]


def _charges(items: Iterable[Item]) -> Iterable[ChargeTerms]:
    """The charges of items, each plan's once."""
    plans = {id(subscription.plan): subscription.plan for subscription, _ in items}
    return (charge for plan in plans.values() for charge in plan.charges)


def bucket_usage(charge: ChargeTerms, units: Units, currency: str, events: Sequence[Sample] = ()) -> BucketUsage:
    """What was measured of a bucket that is not prorated, as the charge's price sees it. `events` are its single ones,
    where the price looks at them; counted ones are known without being read: each is 1. The events' own amounts are minor
    units of what the charge's prices are in."""
    own_amounts = units.precise_total_amount_cents
    runs = None
    if charge.aggregation in COUNTED:
        runs = ones(units.units)
    elif charge.needs_events:
        runs = runs_of(events)
    return BucketUsage(
        units=round_units(units.units, charge.rounding_function, charge.rounding_precision),
        events_count=units.events_count,
        precise_total_amount=from_minor(own_amounts, charge.priced_in(currency)) if own_amounts else ZERO,
        runs=runs,
    )


def _group_order(bucket: Bucket) -> tuple[tuple[bool, str], ...]:
    return _order(bucket.group)


def _order(values: Iterable[str | None]) -> tuple[tuple[bool, str], ...]:
    """Absent values first, then by text."""
    return tuple((value is not None, value or "") for value in values)
