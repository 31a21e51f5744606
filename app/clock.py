"""The only module that knows the time.

Everything else takes `now`. An organization made with `sandbox: true` lives on a simulated clock, which
`PUT /api/v1/test_clock` moves; every other organization lives on the system's.
"""

from datetime import UTC, datetime
from typing import Protocol


class HasClock(Protocol):
    """What an organization must show for its time to be told."""

    @property
    def sandbox(self) -> bool: ...
    @property
    def test_clock(self) -> datetime | None: ...


def system_now() -> datetime:
    """The system's time, in UTC."""
    return datetime.now(UTC)


def now_of(organization: HasClock) -> datetime:
    """The time an organization lives in, in UTC: its simulated clock once that is set, else the system's."""
    if organization.sandbox and organization.test_clock is not None:
        return organization.test_clock.astimezone(UTC)
    return system_now()
