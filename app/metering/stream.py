"""Newline-delimited events of any number: read line by line, and taken in blocks of bounded size.

A stream is not all or nothing: each valid line is taken and each invalid one told. A stream that ends badly has been
taken up to a line that is told; as events that are sent again are replays, the whole of it may simply be sent again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from app.errors import ApiError, Details, Invalid, StoreDown, TooManyRequests
from app.metering.events import Event, EventInput, explain_undecodable

BLOCK_EVENTS = 5_000
BLOCK_BYTES = 4 * 1024 * 1024
PAUSE_SECONDS = 0.05
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventLine(EventInput):
    """A line: an event, or an object with one in `event`."""

    event: Raw = Raw(b"")


_line = msgspec.json.Decoder(EventLine)
_event = msgspec.json.Decoder(EventInput)


class LineError(Struct):
    """Why a line was not taken: codes by field, or a sentence. Lines count from 1."""

    line: int
    error_details: Details


class Taken(Struct):
    """What has become of a stream. `received` is the sum of the three that follow it.

    `lines` is how far the stream was dealt with; what comes after that line must be sent again.
    """

    complete: bool = False
    lines: int = 0
    received: int = 0
    accepted: int = 0
    replays: int = 0
    rejected: int = 0
    errors: list[LineError] = []
    errors_left_off: int = 0


class Accept(Protocol):
    """`Ingest.accept`."""

    def __call__(self, events: list[Event], *, batch: bool) -> Awaitable[Sequence[Event]]:
        """Store events, all or none."""


class Lines:
    """Splits bytes that come in pieces into lines; of one longer than `limit` no more than that is kept."""

    def __init__(self, limit: int):
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes | None]:
        """The lines that end in a piece, without their ends; None for one that is too long."""
        first, newline, rest = piece.partition(b"\n")
        if not newline:
            self._keep(piece)
            return []
        self._keep(first)
        lines: list[bytes | None] = [self.last()]
        whole = rest.split(b"\n")
        self._keep(whole.pop())
        lines += whole if len(rest) <= self._limit else [one if len(one) <= self._limit else None for one in whole]
        return lines

    def last(self) -> bytes | None:
        """What has come since the last line's end."""
        line = b"".join(self._parts) if self._size <= self._limit else None
        self._parts, self._size = [], 0
        return line

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._limit:
            self._parts.append(part)
        else:
            self._parts.clear()


class EventStream:
    """Takes the events of one stream."""

    def __init__(
        self,
        accept: Accept,
        read: Callable[[EventInput], Event | Details],
        *,
        line_bytes: int,
        patience: float,
        most_errors: int,
    ):
        """`read` makes a valid event of what was sent, each with a receipt of its own. Where `accept` is busy or
        down, it is asked again for up to `patience` seconds. Of the lines that are not taken the first `most_errors` are
        told."""
        self.taken = Taken()
        self._accept = accept
        self._read = read
        self._lines = Lines(line_bytes)
        self._too_long = f"line too long: more than {line_bytes} bytes"
        self._patience = patience
        self._most_errors = most_errors
        self._number = 0
        self._size = 0
        self._events: dict[int, Event] = {}
        self._wrong: dict[int, Details] = {}

    async def take(self, pieces: AsyncIterator[bytes]) -> None:
        """Take everything; `taken` tells what has become of it, also when this raises.

        Raises:
            ApiError: what `pieces` raises, after all whole lines before it have been taken; or what `accept` does when
                patience is over.
        """
        failure: ApiError | None = None
        while True:
            try:
                piece = await anext(pieces, None)
            except ApiError as error:
                failure = error
                break
            if piece is None:
                last = self._lines.last()
                if last != b"":
                    self._add(last)
                break
            for line in self._lines.feed(piece):
                self._add(line)
                if len(self._events) + len(self._wrong) >= BLOCK_EVENTS or self._size >= BLOCK_BYTES:
                    await self._take_block()
        await self._take_block()
        if failure is not None:
            raise failure
        self.taken.complete = True

    def _add(self, line: bytes | None) -> None:
        self._number += 1
        if line is None:
            self._wrong[self._number] = self._too_long
            return
        if self._number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line or line.isspace():
            return
        self._size += len(line)
        event = self._event(line)
        if isinstance(event, Event):
            self._events[self._number] = event
        else:
            self._wrong[self._number] = event

    def _event(self, line: bytes) -> Event | Details:
        try:
            line.decode()  # a field that is skipped is not looked at, and must be UTF-8 all the same
            whole = _line.decode(line)
            inner = bytes(whole.event)
            wrapped = inner[:1] == b"{" and whole.transaction_id is None and whole.code is None
            given = _event.decode(inner) if wrapped else whole
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            explained = explain_undecodable(error, batch=False)
            return explained.details or explained.error.removeprefix("BadRequest: ")
        return self._read(given)

    async def _take_block(self) -> None:
        """Have the block's events stored; those that are refused one by one are left out, and told."""
        waiting, wrong = self._events, self._wrong
        stored: Sequence[Event] = ()
        while waiting:
            try:
                stored = await self._patiently(list(waiting.values()))
                break
            except Invalid as refusal:
                if not isinstance(refusal.details, Mapping):
                    raise
                numbers = list(waiting)
                refused = {numbers[int(place)]: details for place, details in refusal.details.items()}
                wrong |= refused
                waiting = {number: event for number, event in waiting.items() if number not in refused}
        # An expression makes another event of a new one, but one with the same receipt.
        fresh = sum(one.receipt is event.receipt for one, event in zip(stored, waiting.values(), strict=True))
        self._count(len(waiting), fresh, wrong)
        self._events, self._wrong, self._size = {}, {}, 0

    async def _patiently(self, events: list[Event]) -> Sequence[Event]:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience
        while True:
            try:
                return await self._accept(events, batch=True)
            except (TooManyRequests, StoreDown):
                if loop.time() >= end:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)

    def _count(self, valid: int, fresh: int, wrong: dict[int, Details]) -> None:
        taken = self.taken
        taken.lines = self._number
        taken.received += valid + len(wrong)
        taken.accepted += fresh
        taken.replays += valid - fresh
        taken.rejected += len(wrong)
        told = sorted(wrong)[: self._most_errors - len(taken.errors)]
        taken.errors += [LineError(number, wrong[number]) for number in told]
        taken.errors_left_off += len(wrong) - len(told)
