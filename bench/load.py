"""What the benches share: a server of their own, an account on it, and a load generator that costs little."""

import http.client
import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import msgspec

from app.service import Service
from tests.support import Server, running

R = TypeVar("R")

HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 15
IDLE_SECONDS = 900
IDLE_SHARE = 0.1
QUIET_SECONDS = 3

SUBSCRIPTIONS = 16
METRICS = (
    ("requests", "count_agg", None),
    ("bytes", "sum_agg", "bytes"),
    ("peak", "max_agg", "level"),
    ("users", "unique_count_agg", "user_id"),
)
"""Code, aggregation and field of the metrics the events belong to, one of each kind."""

encode = msgspec.json.encode


def event(number: int, prefix: str, timestamp: int) -> dict[str, Any]:
    """The event with this number: metrics and subscriptions take turns."""
    code, _, name = METRICS[number % len(METRICS)]
    properties: dict[str, Any] = {"region": ("eu", "us", "asia")[number % 3]}
    if name is not None:
        properties[name] = f"u{number * 7919 % 5000}" if name == "user_id" else str(number * 7919 % 100_000 / 100)
    return {
        "transaction_id": f"{prefix}-{number}",
        "external_subscription_id": f"sub_{number // len(METRICS) % SUBSCRIPTIONS}",
        "code": code,
        "timestamp": timestamp,
        "properties": properties,
    }


def blocks(prefix: str, now: int, count: int, size: int) -> Iterator[list[dict[str, Any]]]:
    """So many events of the hour before, so many at a time."""
    for first in range(0, count, size):
        yield [event(number, prefix, now - number % 3600) for number in range(first, min(first + size, count))]


@dataclass(frozen=True, slots=True)
class Api:
    """A server and the key to an organization on it."""

    port: int
    key: str
    pid: int = 0
    data_dir: Path = Path()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer of one request.

        Raises:
            RuntimeError: the answer was not 200.
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else encode(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500].decode(errors='replace')}")
        return msgspec.json.decode(content)

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """The bytes of a request, for the load generator."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {HOST}:{self.port}\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@contextmanager
def process(command: Sequence[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that listens on `port`; stopped at the end."""
    started = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        cwd=Path(__file__).resolve().parent.parent,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            if started.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} did not start")
            time.sleep(0.05)
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


@contextmanager
def folder() -> Iterator[Path]:
    """A data directory of its own, removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="meterhouse-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def meterhouse() -> Iterator[Api]:
    """`meterhouse up` with embedded engines on a data directory of its own, and a new organization on it."""
    with folder() as root, running(root / "data") as server:
        yield new_account(server)


def new_account(server: Server, **fields: object) -> Api:
    """A new organization on a server, and its key."""
    admin = Api(server.port, server.admin_key)
    made = admin.call("POST", "/admin/organizations", {"organization": {"name": "Bench", **fields}})
    return Api(server.port, made["organization"]["api_key"], server.pid, server.data_dir)


def set_up(api: Api, subscription_at: datetime, subscriptions: int = SUBSCRIPTIONS) -> None:
    """The metrics, a plan that prices them, and the subscriptions the events belong to."""
    charges = []
    for code, aggregation, name in METRICS:
        metric = {"name": code, "code": code, "aggregation_type": aggregation, "field_name": name}
        made = api.call("POST", "/api/v1/billable_metrics", {"billable_metric": metric})
        metric_id = made["billable_metric"]["lago_id"]
        charges.append({"billable_metric_id": metric_id, "charge_model": "standard", "properties": {"amount": "0.001"}})
    plan = {
        "name": "Bench",
        "code": "bench",
        "interval": "monthly",
        "amount_cents": 1000,
        "amount_currency": "EUR",
        "pay_in_advance": False,
        "charges": charges,
    }
    api.call("POST", "/api/v1/plans", {"plan": plan})
    for number in range(subscriptions):
        customer = {"external_id": f"customer_{number}", "name": f"Customer {number}", "currency": "EUR"}
        api.call("POST", "/api/v1/customers", {"customer": customer})
        subscription = {
            "external_customer_id": f"customer_{number}",
            "external_id": f"sub_{number}",
            "plan_code": "bench",
            "subscription_at": subscription_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        api.call("POST", "/api/v1/subscriptions", {"subscription": subscription})


@dataclass(slots=True)
class Load:
    """What a load run saw."""

    answered: int = 0
    refused: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


class _Connection:
    """One kept-alive connection with the requests it has still to send."""

    def __init__(self, port: int, requests: Sequence[bytes]):
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.requests = list(reversed(requests))
        self.sent_at = 0.0
        self._to_send = memoryview(b"")
        self._received = bytearray()
        self._expected = 0

    def send_next(self) -> None:
        """Begin the next request."""
        self._received.clear()
        self._expected = 0
        self._to_send = memoryview(self.requests.pop())
        self.sent_at = time.perf_counter()
        self._write()

    @property
    def wanted(self) -> int:
        """What to wait for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._to_send else 0)

    @property
    def succeeded(self) -> bool:
        """Whether the answer that has come is a 200."""
        return self._received.startswith(b"HTTP/1.1 200")

    def go_on(self, mask: int) -> bool:
        """Write and read what can be; whether the answer is complete now."""
        if mask & selectors.EVENT_WRITE:
            self._write()
        return bool(mask & selectors.EVENT_READ) and self._read()

    def _write(self) -> None:
        with suppress(BlockingIOError):
            self._to_send = self._to_send[self.socket.send(self._to_send) :]

    def _read(self) -> bool:
        try:
            piece = self.socket.recv(1 << 20)
        except BlockingIOError:
            return False
        if not piece:
            raise RuntimeError("the server closed the connection")
        self._received += piece
        if not self._expected:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self._received[:end]).lower()
            self._expected = end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return len(self._received) >= self._expected


def drive(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Send requests over so many kept-alive connections, each one after the answer to the one before.

    Stops sending after so many seconds; what is under way is still answered.
    """
    load = Load()
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        opened = [_Connection(port, requests[number::connections]) for number in range(connections)]
        for connection in opened:
            stack.callback(connection.socket.close)
        started = time.perf_counter()
        for connection in opened:
            connection.send_next()
            selector.register(connection.socket, connection.wanted, connection)
        while selector.get_map():
            for key, mask in _ready(selector):
                connection = key.data
                if connection.go_on(mask):
                    now = time.perf_counter()
                    load.latencies.append(now - connection.sent_at)
                    load.answered += connection.succeeded
                    load.refused += not connection.succeeded
                    if not connection.requests or now - started > seconds:
                        selector.unregister(connection.socket)
                        continue
                    connection.send_next()
                if connection.wanted != key.events:
                    selector.modify(connection.socket, connection.wanted, connection)
        load.seconds = time.perf_counter() - started
    return load


def _ready(selector: selectors.BaseSelector) -> list[tuple[selectors.SelectorKey, int]]:
    ready = selector.select(timeout=30)
    if not ready:
        raise RuntimeError("the server does not answer")
    return ready


def elsewhere(function: Callable[..., R], *arguments: object) -> R:
    """Call a function in a new process, and return what it returns."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def resident_mib(pid: int) -> float:
    """The resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} tells no VmRSS")


def postgres_mib(data_dir: Path) -> float:
    """The resident memory of the embedded PostgreSQL's processes; pages they share are counted in each."""
    found = 0.0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, RuntimeError):
                if (entry / "cwd").readlink().is_relative_to(data_dir / "postgres"):
                    found += resident_mib(int(entry.name))
    return found


def until_idle(pid: int) -> None:
    """Wait until a process does next to nothing, so that what it has begun by itself disturbs no measurement.

    Raises:
        RuntimeError: it is still at work after a long time.
    """
    quiet, used = 0, _cpu_seconds(pid)
    deadline = time.monotonic() + IDLE_SECONDS
    while quiet < QUIET_SECONDS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {pid} is not idle after {IDLE_SECONDS} s")
        time.sleep(1)
        before, used = used, _cpu_seconds(pid)
        quiet = quiet + 1 if used - before < IDLE_SHARE else 0


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def end_well_when_told() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that the servers it has started end too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def counted(service: Service) -> Iterator[Counter[str]]:
    """The number of queries that ClickHouse is asked, by name."""
    queries: Counter[str] = Counter()

    def counting(asked: Callable[[Any], R]) -> Callable[[Any], R]:
        def ask(query: Any) -> R:
            queries[query.name] += 1
            return asked(query)

        return ask

    store = service.clickhouse
    with mock.patch.multiple(store, rows=counting(store.rows), table=counting(store.table)):
        yield queries


def verdict(met: bool) -> str:
    """How a goal line ends."""
    return "met" if met else "MISSED"
