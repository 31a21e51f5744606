"""Where the periods of charges paid in advance stand, loaded and stored for many events at a time (metering spec 3.12).

A level is kept for each bucket that has had an event. The first event of a charge in a period finds none: then all are
made from the events that are there already, which are those that came before the charge did, or before its filters or
groups were changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Text, cast, delete, func, inspect, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import TableValuedAlias

from app.billing.advance_due import Due, Place, Step, bucket_digest, bucket_json, level_columns, level_of
from app.billing.terms import ChargeTerms
from app.core.aggregation import Aggregation, Units
from app.core.buckets import Bucket
from app.core.charges.advance_level import Level, Presence
from app.core.money import exact
from app.core.values import replace
from app.metering.arrivals import History, Known, histories, last_operations
from app.metering.meter import Meter
from app.metering.usage import NOTHING
from app.metering.windows import FIRST_MS, Window
from app.models import AdvanceLevel
from app.stores.clickhouse import ClickHouse

ROWS = 1_000
"""How many levels are written with one statement."""


class Levels:
    """The levels that some events change. `load` brings what is known, `tell` one event after the other, and `save` keeps
    where that has led; without it nothing is changed."""

    def __init__(self, organization_id: UUID) -> None:
        self._organization_id = organization_id
        self._signatures: dict[Place, str] = {}
        self._levels: dict[tuple[Place, Bucket], Level] = {}
        self._changed: dict[tuple[Place, Bucket], Due] = {}
        self._made_anew: dict[Place, list[tuple[Bucket, Due]]] = {}
        self._carried: dict[Place, Mapping[Any, Units]] = {}
        self._presence: dict[tuple[Place, Bucket], Presence] = {}

    @classmethod
    def load(
        cls,
        db: Session,
        clickhouse: ClickHouse,
        meter: Meter,
        organization_id: UUID,
        dues: Sequence[Due],
        known: Known,
    ) -> "Levels":
        """The levels of these events. `known` are the events that have been told already, in all periods."""
        levels = cls(organization_id)
        if dues:
            places = {due.place: due for due in dues}
            unknown = levels._read(db, dues, places)
            levels._make(clickhouse, [places[place] for place in unknown], known)
            levels._carry(meter, places.values())
            levels._look_up(clickhouse, dues, places, known)
        return levels

    def tell(self, due: Due) -> Step:
        """Move the level of an event's bucket on by it."""
        at = due.place, due.bucket
        before, sample, charge = self._levels.get(at, Level()), due.arrival.event, due.charge
        precise = due.arrival.precise_total_amount_cents
        after, event = due.told(before, sample, precise, self._presence.get(at))
        self._levels[at] = after
        self._changed[at] = due
        carried = self._carried.get(due.place, {}).get(due.bucket, NOTHING) if charge.recurring else NOTHING
        return Step(before, after, event, carried)

    def note_prorated(self, due: Due, quantity: Decimal) -> None:
        """An event that has just been told was billed for this quantity, prorated."""
        at = due.place, due.bucket
        with exact():
            self._levels[at] = replace(self._levels[at], prorated=self._levels[at].prorated + quantity)

    def save(self, db: Session) -> None:
        """Keep the levels that have changed, and those that were made anew."""
        for place, buckets in self._made_anew.items():
            db.execute(delete(AdvanceLevel).where(*_at(place)))
            self._changed = {(place, bucket): due for bucket, due in buckets} | self._changed
        rows = [self._row(place, bucket, due) for (place, bucket), due in self._changed.items()]
        for start in range(0, len(rows), ROWS):
            statement = insert(AdvanceLevel).values(rows[start : start + ROWS])
            keys = [column.name for column in inspect(AdvanceLevel).primary_key]
            values = {name: statement.excluded[name] for name in rows[0] if name not in keys}
            db.execute(statement.on_conflict_do_update(index_elements=keys, set_=values))

    def _read(self, db: Session, dues: Sequence[Due], places: Mapping[Place, Due]) -> list[Place]:
        """Read the levels that there are; gives the places that have none, or none that can be used."""
        wanted = _unnested(places)
        found = db.execute(
            select(
                AdvanceLevel.subscription_id, AdvanceLevel.charge_id, AdvanceLevel.from_datetime, AdvanceLevel.signature
            )
            .distinct()
            .join(wanted, _same(wanted))
        )
        signatures: dict[Place, set[str]] = {}
        for subscription_id, charge_id, from_, signature in found:
            signatures.setdefault((subscription_id, charge_id, from_), set()).add(signature)
        usable = [place for place, due in places.items() if signatures.get(place) == {due.charge.signature}]
        of_usable = set(usable)
        buckets = {
            (due.place, bucket_digest(due.charge, due.bucket)): due.bucket for due in dues if due.place in of_usable
        }
        if buckets:
            rows = _unnested([(*place, digest) for place, digest in buckets])
            for row in db.scalars(
                select(AdvanceLevel).join(rows, _same(rows) & (AdvanceLevel.bucket_digest == rows.c.digest))
            ):
                at = row.subscription_id, row.charge_id, row.from_datetime
                self._levels[at, buckets[at, row.bucket_digest]] = level_of(row)
                db.expunge(row)
        return [place for place in places if place not in of_usable]

    def _make(self, clickhouse: ClickHouse, firsts: Sequence[Due], known: Known) -> None:
        """Make the levels of periods from the events that are there."""
        windows = [_history_window(due) for due in firsts]
        found = histories(clickhouse, windows, known) if windows else []
        presences = self._earlier_items(clickhouse, firsts, found, known)
        for place, (due, history) in enumerate(zip(firsts, found, strict=True)):
            from_ms, buckets = due.window.from_ms, list[Bucket]()
            for bucket, sample, precise in history:
                if not isinstance(bucket, Bucket):
                    continue
                at = due.place, bucket
                if at not in self._levels:
                    buckets.append(bucket)
                level, one = self._levels.get(at, Level()), replace(due, bucket=bucket)
                if sample.timestamp_ms < from_ms:
                    # Looked at for the allowances only: it is part of what is carried over.
                    allowance = one.allowance
                    spent = allowance.spend(level.spent or allowance.unspent, sample.value) if allowance else None
                    self._levels[at] = replace(level, spent=spent)
                    continue
                self._levels[at], event = one.told(level, sample, precise, presences.get((place, bucket)))
                if due.charge.prorated:
                    self.note_prorated(one, one.prorated(sample, event))
            self._made_anew[due.place] = [(bucket, replace(due, bucket=bucket)) for bucket in buckets]

    def _earlier_items(
        self, clickhouse: ClickHouse, firsts: Sequence[Due], found: Sequence[History], known: Known
    ) -> dict[tuple[int, Bucket], Presence]:
        """Of unique counts the items that were there before the periods began, among those of the events found."""
        places = [place for place, due in enumerate(firsts) if _unique(due.charge) and found[place]]
        items = {sample.item for place in places for _, sample, _ in found[place] if sample.item}
        earlier = [
            replace(
                due.window, from_ms=FIRST_MS if due.charge.recurring else due.window.from_ms, end_ms=due.window.from_ms
            )
            for due in (firsts[place] for place in places)
        ]
        last = last_operations(clickhouse, earlier, items, known) if items else [{} for _ in places]
        return {
            (place, bucket): Presence(mine.get(bucket, {}))
            for place, mine in zip(places, last, strict=True)
            for bucket in dict.fromkeys(bucket for bucket, *_ in found[place])
            if isinstance(bucket, Bucket)
        }

    def _carry(self, meter: Meter, firsts: Iterable[Due]) -> None:
        """Measure what is carried over into the periods, where the price depends on it."""
        carrying = [due for due in firsts if due.charge.recurring and not due.charge.prorated]
        if carrying:
            windows = [
                replace(due.window, recurring=False, from_ms=FIRST_MS, end_ms=due.window.from_ms) for due in carrying
            ]
            for due, usage in zip(carrying, meter.usage(windows), strict=True):
                self._carried[due.place] = usage

    def _look_up(self, clickhouse: ClickHouse, dues: Sequence[Due], places: Mapping[Place, Due], known: Known) -> None:
        """Find out which items of unique counts are there already."""
        unique = [due for due in places.values() if _unique(due.charge)]
        items = {due.arrival.event.item for due in dues if _unique(due.charge) and due.arrival.event.item}
        if not items:
            return
        windows = [
            replace(due.window, from_ms=FIRST_MS if due.charge.recurring else due.window.from_ms) for due in unique
        ]
        found = last_operations(clickhouse, windows, items, known)
        by_place = {due.place: last for due, last in zip(unique, found, strict=True)}
        for due in dues:
            at = due.place, due.bucket
            if _unique(due.charge) and at not in self._presence:
                self._presence[at] = Presence(by_place[due.place].get(due.bucket, {}))

    def _row(self, place: Place, bucket: Bucket, due: Due) -> dict[str, Any]:
        subscription_id, charge_id, from_ = place
        level = self._levels[place, bucket]
        return {
            "subscription_id": subscription_id,
            "charge_id": charge_id,
            "from_datetime": from_,
            "bucket_digest": bucket_digest(due.charge, bucket),
            "organization_id": self._organization_id,
            "bucket": bucket_json(due.charge, bucket),
            "signature": due.charge.signature,
            **level_columns(level),
        }


def _history_window(due: Due) -> Window:
    """The events that a period's levels are made of; from the first one ever, where allowances carry over."""
    from_first = due.charge.recurring and due.charge.needs_events
    return replace(due.window, from_ms=FIRST_MS) if from_first else due.window


def _unique(charge: ChargeTerms) -> bool:
    return charge.aggregation is Aggregation.UNIQUE_COUNT


def _at(place: Place) -> list[ColumnElement[bool]]:
    subscription_id, charge_id, from_ = place
    return [
        AdvanceLevel.subscription_id == subscription_id,
        AdvanceLevel.charge_id == charge_id,
        AdvanceLevel.from_datetime == from_,
    ]


def _unnested(rows: Iterable[tuple[Any, ...]]) -> TableValuedAlias:
    """Places as a table, with a digest of a bucket where there is one."""
    subscriptions, charges, froms, *digests = (list(column) for column in zip(*rows, strict=True))
    names = ("subscription_id", "charge_id", "from_datetime", *(["digest"] if digests else []))
    texts = [cast(column, ARRAY(Text)) for column in digests]  # PostgreSQL cannot tell what texts are
    return func.unnest(subscriptions, charges, froms, *texts).table_valued(*names).render_derived()


def _same(places: TableValuedAlias) -> ColumnElement[bool]:
    return (
        (AdvanceLevel.subscription_id == places.c.subscription_id)
        & (AdvanceLevel.charge_id == places.c.charge_id)
        & (AdvanceLevel.from_datetime == places.c.from_datetime)
    )
