"""The rollups: for each aggregation type its table, what it keeps of an hour, and how that folds together.

The query files hold the shape of a query; which columns it reads depends on the aggregation and is put in from here
(`{{table}}`, `{{kept}}`, `{{raw}}` …). Every text is this module's own, never a value from outside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from app.core.aggregation import Aggregation

LAST_OPERATION = (
    "concat(leftPad(toString(toUnixTimestamp64Milli(v.timestamp)), 15, '0'),"
    r" replaceAll(v.transaction_id, '\0', '\0\1'), '\0\0', toString(toInt8(v.operation)))"
)
"""What `usage_unique.last` keeps of an event: texts that sort as (timestamp, transaction_id) do."""


HOURS = "u.hour"
DAYS = "intDiv(u.hour, 24)"
MONTHS = "toYYYYMM(fromUnixTimestamp64Second(toInt64(u.hour) * 3600, 'UTC'))"
"""Spans of UTC that the items of a subscription are kept by: the rollup's own and, word for word, its projections'."""


@dataclass(frozen=True, slots=True)
class Column:
    """What a rollup keeps: `raw` of an event, folded by `fold` (`sum` or `max`)."""

    name: str
    fold: str
    raw: str

    def folded(self, source: str) -> str:
        """This column of several rows of `source` as one."""
        return f"{self.fold}({source}.{self.name}) AS {self.name}"


EVENTS_COUNT = Column("events_count", "sum", "toInt64(1)")


@dataclass(frozen=True)
class Rollup:
    """One rollup table. `by_item`: it has a row for every item of an hour."""

    aggregation: Aggregation
    table: str
    columns: tuple[Column, ...] = ()
    by_item: bool = False

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """The number of events, which every rollup keeps, and its own columns."""
        return (EVENTS_COUNT, *self.columns)

    @property
    def can_shrink(self) -> bool:
        """Whether a cell that holds too much can be put right by adding the difference; a maximum cannot."""
        return all(column.fold == "sum" for column in self.columns)

    @cached_property
    def fragments(self) -> Mapping[str, str]:
        """What is put into the query files."""
        item = ["item"] if self.by_item else []
        columns = self.all_columns
        return {
            "aggregation": f"'{self.aggregation}'",
            "table": self.table,
            "kept": ", ".join(column.folded("u") for column in columns),
            "raw": ", ".join(f"{column.fold}({column.raw}) AS {column.name}" for column in columns),
            "folded": ", ".join(column.folded("part") for column in columns),
            "last": LAST_OPERATION,
            "taken_away": ", ".join(
                f"{'-' if column.fold == 'sum' else ''}{column.fold}(u.{column.name}) AS {column.name}"
                for column in columns
            ),
            "item": "".join(f", {name}" for name in item),
            "key": ", ".join(["organization_id", "external_subscription_id", "code", "hour", "dimensions", *item]),
            "names": ", ".join(column.name for column in columns),
            "differs": " OR ".join(f"{column.name} != 0" for column in columns if column.fold == "sum"),
        }


ROLLUPS: Mapping[Aggregation, Rollup] = {
    one.aggregation: one
    for one in (
        Rollup(Aggregation.COUNT, "usage_count"),
        Rollup(
            Aggregation.SUM,
            "usage_sum",
            (
                Column("total", "sum", "toDecimal256(v.value, 18)"),
                Column(
                    "precise_total_amount_cents", "sum", "toDecimal256(ifNull(v.precise_total_amount_cents, 0), 18)"
                ),
            ),
        ),
        Rollup(Aggregation.MAX, "usage_max", (Column("top", "max", "v.value"),)),
        Rollup(
            Aggregation.LATEST,
            "usage_latest",
            (Column("newest", "max", "(v.timestamp, v.ingested_at, v.transaction_id, v.value)"),),
        ),
        Rollup(
            Aggregation.UNIQUE_COUNT,
            "usage_unique",
            (Column("last", "max", LAST_OPERATION), Column("removes", "sum", "toInt64(v.operation = 'remove')")),
            by_item=True,
        ),
        Rollup(
            Aggregation.WEIGHTED_SUM,
            "usage_weighted",
            (
                Column("total", "sum", "toDecimal256(v.value, 18)"),
                Column(
                    "moment", "sum", "toDecimal256(v.value, 18) * intDiv(toUnixTimestamp64Milli(v.timestamp), 1000)"
                ),
            ),
        ),
    )
}  # fmt: skip
