"""Reading current usage on an idle server that holds about the demo's data, and the memory the server takes.

    python -m bench.usage

300,000 events in one organization, over 16 subscriptions, 4 metrics and one year. The goals: p95 below 20 ms, resident
memory below 1 GiB.
"""

import time
from datetime import UTC, datetime

from bench.load import (
    SUBSCRIPTIONS,
    Api,
    Load,
    drive,
    elsewhere,
    encode,
    event,
    meterhouse,
    percentile,
    postgres_mib,
    resident_mib,
    set_up,
)

EVENTS = 300_000
BATCH = 2_000
YEAR = 365 * 86_400
READS = 500
IDLE_SECONDS = 5
GOAL_MS = 20
GOAL_MIB = 1024


def main() -> None:
    """Measure and print."""
    now = int(time.time())
    with meterhouse() as api:
        before = _memory(api)
        set_up(api, datetime.fromtimestamp(now - YEAR, UTC))
        loaded = elsewhere(fill, api, now)
        if loaded.refused:
            raise RuntimeError(f"{loaded.refused} batches were refused")
        time.sleep(IDLE_SECONDS)
        elsewhere(read, api, 50, SUBSCRIPTIONS)
        one = elsewhere(read, api, READS, 1)
        turns = elsewhere(read, api, READS, SUBSCRIPTIONS)
        after = _memory(api)
    print(f"\nCurrent usage, 4 charges, {EVENTS:,} events, {READS} reads one after the other")
    for what, load in (("one subscription", one), (f"{SUBSCRIPTIONS} in turn", turns)):
        p50, p95 = (percentile(load.latencies, share) * 1000 for share in (0.50, 0.95))
        print(
            f"  {what:<20} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   goal p95 < {GOAL_MS} ms: {_verdict(p95 < GOAL_MS)}"
        )
    print("Resident memory (server process + its PostgreSQL processes, shared pages counted in each)")
    print(f"  at the start         {before[0]:6.0f} MiB + {before[1]:4.0f} MiB")
    print(f"  after the load       {after[0]:6.0f} MiB + {after[1]:4.0f} MiB   goal < {GOAL_MIB} MiB: ", end="")
    print(_verdict(after[0] < GOAL_MIB))


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def _memory(api: Api) -> tuple[float, float]:
    return resident_mib(api.pid), postgres_mib(api.data_dir)


def fill(api: Api, now: int) -> Load:
    """Send a year of events, oldest first."""
    requests = []
    for first in range(0, EVENTS, BATCH):
        events = [event(number, "year", now - YEAR + number * YEAR // EVENTS) for number in range(first, first + BATCH)]
        requests.append(api.request("POST", "/api/v1/events/batch", encode({"events": events})))
    return drive(api.port, requests, 2, 60)


def read(api: Api, count: int, subscriptions: int) -> Load:
    """Read the current usage of so many subscriptions in turn, over one connection."""
    requests = [
        api.request("GET", f"/api/v1/customers/customer_{number}/current_usage?external_subscription_id=sub_{number}")
        for number in (one % subscriptions for one in range(count))
    ]
    load = drive(api.port, requests, 1, 20)
    if load.refused:
        raise RuntimeError(f"{load.refused} reads were refused")
    return load


if __name__ == "__main__":
    main()
