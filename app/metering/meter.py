"""What billing asks of metering: the usage of windows, and where prices depend on them, their single events."""

from collections.abc import Sequence

from app.metering.upkeep import Upkeep
from app.metering.usage import Events, Usage, measure, single_events
from app.metering.windows import Window
from app.stores.clickhouse import ClickHouse


class Meter:
    """Measures windows. One `for_billing` holds the rollups against the raw events first, and mends what differs."""

    def __init__(self, clickhouse: ClickHouse, upkeep: Upkeep, *, for_billing: bool):
        self._clickhouse = clickhouse
        self._upkeep = upkeep
        self._for_billing = for_billing

    def usage(self, windows: Sequence[Window]) -> list[Usage]:
        """The units of each window's buckets, in the windows' order."""
        if self._for_billing:
            self._upkeep.reconcile_before_billing()
        with self._upkeep.reading() as unreliable:
            return measure(self._clickhouse, windows, unreliable)

    def events(self, windows: Sequence[Window]) -> list[Events]:
        """The single events of each window's buckets, in the windows' order."""
        return single_events(self._clickhouse, windows) if windows else []
