"""What a bucket of a charge was priced from, in a form that can be kept beside its fee."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from msgspec import Struct

from app.core.aggregation import Units
from app.core.charges.usage import BucketUsage, Priced
from app.core.money import ZERO, decimal_text


class Figures(Struct, frozen=True):
    """``measured`` is what the aggregation gave, ``units`` what was priced: prorated where the charge is, and rounded by
    the metric; ``full_units`` the rounded ones that are not prorated, None where the charge is not. ``own_amount`` is
    the sum of the events' own amounts, in currency units. ``unit_days`` are, of a prorated graduated price, the units
    in each tier reached times the days that they lasted. ``end_ms`` is the first millisecond since 1970 whose events were
    not counted any more.
    """

    measured: Decimal
    units: Decimal
    events_count: int
    period_days: int
    full_units: Decimal | None = None
    own_amount: Decimal = ZERO
    unit_days: tuple[Decimal, ...] = ()
    end_ms: int | None = None

    @classmethod
    def of(
        cls, measured: Units, usage: BucketUsage, priced: Priced, period_days: int, end_ms: int | None = None
    ) -> "Figures":
        """The figures of a bucket that has just been priced."""
        return cls(
            measured=measured.units,
            units=usage.units,
            events_count=usage.events_count,
            period_days=period_days,
            full_units=usage.full_units,
            own_amount=usage.precise_total_amount,
            unit_days=priced.unit_days,
            end_ms=end_ms,
        )

    def stored(self) -> dict[str, Any]:
        """As JSON: numbers are texts, what is not there is left out."""
        kept: dict[str, Any] = {"measured": decimal_text(self.measured), "units": decimal_text(self.units)}
        if self.full_units is not None:
            kept["full_units"] = decimal_text(self.full_units)
        if self.own_amount:
            kept["own_amount"] = decimal_text(self.own_amount)
        kept["events_count"], kept["period_days"] = self.events_count, self.period_days
        if self.end_ms is not None:
            kept["end_ms"] = self.end_ms
        if self.unit_days:
            kept["unit_days"] = [decimal_text(value) for value in self.unit_days]
        return kept

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "Figures":
        """From what ``stored`` has made."""
        full = stored.get("full_units")
        return cls(
            measured=Decimal(stored["measured"]),
            units=Decimal(stored["units"]),
            events_count=stored["events_count"],
            period_days=stored["period_days"],
            full_units=None if full is None else Decimal(full),
            own_amount=Decimal(stored.get("own_amount", 0)),
            unit_days=tuple(Decimal(value) for value in stored.get("unit_days", ())),
            end_ms=stored.get("end_ms"),
        )
