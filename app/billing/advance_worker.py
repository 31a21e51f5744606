"""When events are billed one by one: a moment after they came, and before anybody reads or changes what depends on it."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID

import structlog

from app.billing.advance_billing import AdvanceBilling
from app.errors import StoreDown
from app.metering.ingest import Ingest

REMEMBER_SECONDS = 5.0
"""How long an organization may have had its first charge paid in advance, by another process, before that is known."""

log = structlog.get_logger(__name__)


class AdvanceWorker:
    """Bills in a thread of its own. Ingest tells which organizations' events it has taken, before it answers, and when
    these can be read; who wants to read or change something waits until they are billed. May be asked from any thread.

    Nobody may wait who has locked anything in PostgreSQL: the thread may need it.
    """

    def __init__(self, billing: AdvanceBilling, *, embedded: bool, readable: Callable[[UUID], None]):
        """`readable` waits until an organization's acknowledged events can be read."""
        self._billing = billing
        self._embedded = embedded
        self._readable = readable
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="advance")
        self._lock = threading.Lock()
        self._organizations: frozenset[UUID] = frozenset()
        self._known_until = 0.0
        self._due: dict[UUID, int] = {}
        self._wanted = False
        self._working = False
        self._ingest: Ingest | None = None

    def start(self, ingest: Ingest | None) -> None:
        """Begin with what the last stop may have left."""
        marks = self._billing.marks()
        self._organizations = frozenset(marks)
        self._known_until = time.monotonic() + REMEMBER_SECONDS
        self._ingest = ingest
        if ingest is not None:
            if marks:
                ingest.stamp_after(max(marks.values()))
            self._due = dict.fromkeys(self._billing.busy(), 0)
            ingest.follow(self.taken, self.wake)
            self.wake()

    def stop(self) -> None:
        """Finish what is under way; what is left is taken up at the next start."""
        self._ingest = None
        self._thread.shutdown(wait=True, cancel_futures=True)

    def begins(self, organization_id: UUID) -> None:
        """An organization has a charge paid in advance, and that is committed."""
        with self._lock:
            self._organizations |= {organization_id}
            self._due.setdefault(organization_id, 0)
        self.wake()

    def taken(self, organizations: Iterable[str], number: int) -> None:
        """Events of these organizations are durable, in the block with this number, and not answered yet."""
        if not self._organizations:
            return
        mine = self._organizations.intersection(map(UUID, organizations))
        if mine:
            with self._lock:
                self._due.update(dict.fromkeys(mine, number))

    def wake(self) -> None:
        """More events can be read: bill what is due."""
        with self._lock:
            if not self._due or self._ingest is None:
                return
            self._wanted = True
            if not self._working:
                self._working = True
                self._thread.submit(self._bill_next, [])

    def wait(self, organization_id: UUID) -> None:
        """Wait until an organization's acknowledged events have been billed, where they are billed one by one.

        Raises:
            StoreDown: they could not be read.
        """
        if self._embedded:
            if organization_id in self._due:
                self._readable(organization_id)
                self._thread.submit(self._bill_if_due, organization_id).result()
        elif self._bills(organization_id):
            self._readable(organization_id)
            self._thread.submit(self._bill, organization_id).result()

    def sweep(self) -> int:
        """Bill whatever is left anywhere; returns the number of fees. For where several processes share the stores: one
        may have died before it has billed what it took."""
        return self._thread.submit(
            lambda: sum(self._billing.bill(one, late=True) for one in self._billing.busy())
        ).result()

    def _bills(self, organization_id: UUID) -> bool:
        if self._known_until < time.monotonic():
            self._organizations |= frozenset(self._thread.submit(self._billing.marks).result())
            self._known_until = time.monotonic() + REMEMBER_SECONDS
        return organization_id in self._organizations

    def _bill_next(self, left: list[UUID]) -> None:
        """Bill one of those that are left of what was due; those who wait for another one come in between."""
        if not left:
            with self._lock:
                if not self._wanted:
                    self._working = False
                    return
                self._wanted = False
                left = list(self._due)
        if left:
            try:
                self._bill_if_due(left.pop())
            except StoreDown as error:
                log.warning("advance.store_down", store=error.store)
        with suppress(RuntimeError):  # the thread is being stopped
            self._thread.submit(self._bill_next, left)

    def _bill_if_due(self, organization_id: UUID) -> None:
        """Bill what can be read by now; it stays due where events have come since."""
        if organization_id not in self._due:
            return
        ingest = self._ingest
        through = ingest.rolled_up if ingest is not None else 0
        if ingest is not None and not ingest.is_whole:
            raise StoreDown("clickhouse")  # some events are being put right: those after them must not go first
        self._bill(organization_id)
        with self._lock:
            if self._due.get(organization_id, through + 1) <= through:
                del self._due[organization_id]

    def _bill(self, organization_id: UUID) -> None:
        try:
            self._billing.bill(organization_id)
        except StoreDown:
            raise
        except Exception as error:
            # Others can still be billed, and what is there can still be read. It is tried again with the next event.
            log.error("advance.failed", organization_id=str(organization_id), exc_info=error)
