"""The journal of small blocks: durable at once, written among the events a moment later.

A row of `events` has many columns, and a part of one row costs as much to write as one of a thousand. A small block is
therefore written as a single row of text first, which answers its requests; the blocks of half a second are then written
to `events` together. What a crash leaves in the journal is written there at the next start.
"""

import msgspec

from app.metering.events import EventRow
from app.metering.keys import Key
from app.metering.stored import find_events
from app.stores.clickhouse import ClickHouse, Query

JOURNALS = (0, 1)

_row = msgspec.json.Decoder(EventRow)


def write_block(clickhouse: ClickHouse, journal: int, number: int, lines: bytes) -> None:
    """Make a block durable in one of the journals."""
    clickhouse.command(Query(f"journal_{journal}_write", {"number": number, "lines": lines.decode()}))


def clear(clickhouse: ClickHouse, journal: int) -> None:
    """Empty a journal whose blocks are all in `events`."""
    clickhouse.command(Query(f"journal_{journal}_clear"))


def restore(clickhouse: ClickHouse) -> int:
    """Write to `events` what the journals hold and `events` lacks, then empty them; returns the number of rows written.

    Nothing else may write meanwhile. Safe to interrupt and to repeat.
    """
    written = 0
    for journal in JOURNALS:
        blocks = clickhouse.rows(Query(f"journal_{journal}_blocks"))
        if not blocks:
            continue
        rows: dict[Key, bytes] = {}
        for (lines,) in blocks:
            for line in lines.encode().splitlines():
                row = _row.decode(line)
                rows[row.organization_id, row.external_subscription_id, row.transaction_id] = line
        stored = find_events(clickhouse, [], sorted(rows))
        missing = [line for key, line in rows.items() if key not in stored]
        if missing:
            clickhouse.insert_lines("events", b"\n".join(missing))
        clear(clickhouse, journal)
        written += len(missing)
    return written
