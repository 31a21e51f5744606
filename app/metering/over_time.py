"""Usage over time: how much of each metric was used in every hour, day, week or month, and by whom.

Hours that lie in one bucket come from the rollups. Where a bucket begins or ends within an hour, as days do in timezones
that are half an hour off, that hour is read from the raw events.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from typing import Any
from uuid import UUID

from app.core.aggregation import Aggregation, WeighedSpan, latest_units, mean_level
from app.core.money import ZERO, exact
from app.core.timeline import HOUR_MS, Cut, cut
from app.metering.rereading import MetricKey
from app.metering.rollups import ROLLUPS, Rollup
from app.stores.clickhouse import ClickHouse, Query
from app.stores.files import filled, query_text


class Owner(StrEnum):
    """Whose usage is told apart."""

    NOBODY = "nobody"
    SUBSCRIPTION = "subscription"
    CUSTOMER = "customer"


_OWNERS = {
    Owner.NOBODY: "''",
    Owner.SUBSCRIPTION: "{source}.external_subscription_id",
    Owner.CUSTOMER: (
        "transform({source}.external_subscription_id, {{owned:Array(String)}}, {{owners:Array(String)}}, '')"
    ),
}


_Key = tuple[str, str, tuple[str, ...]]
"""A metric's code, an owner and a split."""


class TooManyRows(ValueError):
    """The answer is larger than was asked for."""


@dataclass(frozen=True, slots=True)
class MeteredBy:
    """A metric whose usage is asked for, with the keys that its rollup is split by."""

    code: str
    aggregation: Aggregation
    recurring: bool = False
    dimension_keys: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an organization's usage.

    `bounds_ms` are ascending instants in milliseconds since 1970, on whole seconds: from each to the next is a bucket.
    `subscriptions` limits it to these external ids; None means all. `owners` maps external subscription ids to customers,
    for a split by customer. `keys` are the properties to split by.
    """

    organization_id: UUID
    metrics: Sequence[MeteredBy]
    bounds_ms: Sequence[int]
    subscriptions: Collection[str] | None = None
    split_by: Owner = Owner.NOBODY
    owners: Mapping[str, str] = field(default_factory=dict)
    keys: Sequence[str] = ()

    @property
    def owner(self) -> Owner:
        """Whose usage can be told apart: without any customer nobody's can."""
        return Owner.NOBODY if self.split_by is Owner.CUSTOMER and not self.owners else self.split_by


@dataclass(frozen=True, slots=True, order=True)
class UsedInBucket:
    """What was used in one bucket of time. `owner` is '' where it is nobody's in particular; `split` has a text for each
    key, '' where the property was absent.

    `units` are exact: the number of events, the sum, the maximum, the newest value (not below 0), the items whose last
    operation in the bucket adds, or for a weighted sum the level on average, rounded up at 20 decimals.
    """

    bucket: int
    code: str
    owner: str
    split: tuple[str, ...]
    aggregation: Aggregation = field(compare=False)
    units: Decimal = field(compare=False)
    events_count: int = field(compare=False)


def usage_over_time(
    clickhouse: ClickHouse, question: Question, most: int, unreliable: Collection[MetricKey] = frozenset()
) -> list[UsedInBucket]:
    """The usage of every bucket that has any, by bucket, metric, owner and split. A level that is carried over is usage.

    The rollups of `unreliable` metrics are being made again: these are read from the raw events, and so are metrics whose
    rollup is not split by one of the keys.

    Raises:
        TooManyRows: there are more than `most`.
    """
    time = cut(question.bounds_ms)
    asked: dict[tuple[Aggregation, bool], list[MeteredBy]] = defaultdict(list)
    for metric in question.metrics:
        rolled_up = set(question.keys) <= set(metric.dimension_keys)
        raw = not rolled_up or (question.organization_id, metric.code) in unreliable
        asked[metric.aggregation, raw].append(metric)
    found: list[UsedInBucket] = []
    for (aggregation, raw), metrics in asked.items():
        part = _Part(question, ROLLUPS[aggregation], metrics, most + 1, raw)
        rows = part.rows(clickhouse, time)
        used = _levels(clickhouse, part, rows) if aggregation is Aggregation.WEIGHTED_SUM else map(part.used, rows)
        found += islice(used, most + 1)
        if len(found) > most:
            raise TooManyRows
    return sorted(found)


@dataclass(frozen=True, slots=True)
class _Part:
    """The metrics of a question that one query answers: of one aggregation, and all from the raw events or none."""

    question: Question
    rollup: Rollup
    metrics: Sequence[MeteredBy]
    limit: int
    raw: bool

    def rows(self, clickhouse: ClickHouse, time: Cut) -> Sequence[Sequence[Any]]:
        """Bucket, code, owner, split, number of events, and what the rollup keeps, folded."""
        parameters, parts = self._scope(self.metrics), []
        if not self.raw and any(time.buckets):
            parameters |= {"buckets": time.buckets, "first_hour": time.first_hour, "end_hour": time.end_hour}
            parts.append("over_time_hours")
        pieces = time.all_pieces if self.raw else time.pieces
        if pieces:
            parameters |= {
                "pieces": pieces,
                "piece_hours": sorted({piece[0] for piece in pieces}),
                "first_ms": min(piece[1] for piece in pieces),
                "end_ms": max(piece[2] for piece in pieces),
            }
            parts.append("over_time_pieces")
        fragments = self._fragments
        texts = [filled(query_text(part), fragments) for part in parts]
        if len(texts) > 1:
            texts = [filled(query_text("over_time_merged"), {**fragments, "parts": "UNION ALL\n".join(texts)})]
        fragments["usage"] = texts[0]
        name = "over_time_items" if self.rollup.by_item else "over_time"
        return clickhouse.rows(Query(name, parameters, fragments))

    def levels(self, clickhouse: ClickHouse, metrics: Sequence[MeteredBy]) -> Sequence[Sequence[Any]]:
        """Code, owner, split, number of events, and the sums of all that came before the first bucket."""
        from_ms = self.question.bounds_ms[0]
        end_hour = 0 if self.raw else from_ms // HOUR_MS
        parameters = {"end_hour": end_hour, "first_ms": end_hour * HOUR_MS, "end_ms": from_ms}
        return clickhouse.rows(Query("level_before", self._scope(metrics) | parameters, self._fragments))

    def used(self, row: Sequence[Any]) -> UsedInBucket:
        """What a row says was used."""
        bucket, code, owner, split, count, *kept = row
        return UsedInBucket(
            bucket,
            code,
            owner,
            tuple(split),
            self.rollup.aggregation,
            _UNITS[self.rollup.aggregation](count, kept),
            count,
        )

    def _scope(self, metrics: Sequence[MeteredBy]) -> dict[str, Any]:
        asked = self.question
        scope: dict[str, Any] = {
            "organization_id": asked.organization_id,
            "codes": [metric.code for metric in metrics],
            "any_subscription": asked.subscriptions is None,
            "subscriptions": sorted(asked.subscriptions or ()),
            "limit": self.limit,
            **{f"key_{number}": key for number, key in enumerate(asked.keys)},
        }
        if asked.owner is Owner.CUSTOMER:
            scope |= {"owned": list(asked.owners), "owners": list(asked.owners.values())}
        return scope

    @property
    def _fragments(self) -> dict[str, str]:
        owner = _OWNERS[self.question.owner]
        item = self.rollup.by_item
        return {
            **self.rollup.fragments,
            "kept_owner": owner.format(source="u"),
            "raw_owner": owner.format(source="v"),
            "kept_split": self._split("u.dimensions"),
            "raw_split": self._split("v.properties"),
            "kept_item": ", u.external_subscription_id AS subscription, u.item AS item" if item else "",
            "raw_item": ", v.external_subscription_id AS subscription, v.item AS item" if item else "",
            "kept_has_item": " AND u.item != ''" if item else "",
            "raw_has_item": " AND v.item != ''" if item else "",
            "item_key": ", subscription, item" if item else "",
        }

    def _split(self, texts: str) -> str:
        keys = [f"{texts}[{{key_{number}:String}}]" for number in range(len(self.question.keys))]
        return f"[{', '.join(keys)}]" if keys else "emptyArrayString()"


_UNITS: Mapping[Aggregation, Callable[[int, Sequence[Any]], Decimal]] = {
    Aggregation.COUNT: lambda count, _: Decimal(count),
    Aggregation.SUM: lambda _, kept: kept[0],
    Aggregation.MAX: lambda _, kept: kept[0],
    Aggregation.LATEST: lambda _, kept: latest_units(kept[0][-1]),
    Aggregation.UNIQUE_COUNT: lambda _, kept: Decimal(kept[0]),
}


def _levels(clickhouse: ClickHouse, part: _Part, rows: Sequence[Sequence[Any]]) -> Iterator[UsedInBucket]:
    """The level of weighted sums on average in each bucket. Those of recurring metrics begin with what came before, and go
    on where nothing changes; others begin every bucket at 0."""
    bounds_ms = part.question.bounds_ms
    recurring = [metric for metric in part.metrics if metric.recurring]
    carried = {metric.code for metric in recurring}
    opened: dict[_Key, Decimal] = {}
    if recurring:
        opened = {
            (code, owner, tuple(split)): total for code, owner, split, _, total, _ in part.levels(clickhouse, recurring)
        }
    changes: dict[_Key, dict[int, Sequence[Any]]] = {key: {} for key in opened}
    for bucket, code, owner, split, *kept in rows:
        changes.setdefault((code, owner, tuple(split)), {})[bucket] = kept
    for (code, owner, split), mine in changes.items():
        carries = code in carried
        level = opened.get((code, owner, split), ZERO)
        for bucket in range(1, len(bounds_ms)) if carries else sorted(mine):
            count, total, moment = mine.get(bucket, (0, ZERO, ZERO))
            if bucket in mine or level:
                span = WeighedSpan.of(bounds_ms[bucket - 1], bounds_ms[bucket], period_days=1)
                units = mean_level(level, total, moment, span)
                yield UsedInBucket(bucket, code, owner, split, Aggregation.WEIGHTED_SUM, units, count)
            if carries:
                with exact():
                    level += total
