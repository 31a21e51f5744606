"""A Meterhouse server as a subprocess: started, stopped, killed, and nothing of it left behind."""

import contextlib
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

T = TypeVar("T")

METERHOUSE = str(Path(sys.executable).with_name("meterhouse"))
START_SECONDS = 60.0
STOP_SECONDS = 10.0
END_SECONDS = 30.0
PRIVATE = ("METERHOUSE_",)
_tls = ssl.create_default_context()  # made once: making it takes longer than most requests


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def client(base_url: str, key: str | None = None, timeout: float = 60.0) -> httpx.Client:
    """An HTTP client with a key."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=base_url, headers=headers, timeout=timeout, verify=_tls, trust_env=False)


def wait_for(condition: Callable[[], T], what: str, seconds: float = 30.0, pause: float = 0.01) -> T:
    """Ask until the answer is true, and return it; fail when the time is up."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(pause)
    return answer


def seeded(seed: int) -> random.Random:
    """Chance that is the same in every run."""
    return random.Random(seed)  # noqa: S311 (nothing is kept secret with it)


def environment(**settings: object) -> dict[str, str]:
    """This process's environment with no Meterhouse settings but these, named without their prefix."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
    return {**bare, **{f"METERHOUSE_{name.upper()}": str(value) for name, value in settings.items()}}


def run_up(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """`meterhouse up`, for starts that are refused: waits for its end."""
    return run_command("up", *arguments, **settings)


def run_command(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """A `meterhouse` command that ends by itself."""
    return subprocess.run(
        [METERHOUSE, *arguments],
        env=environment(**settings), capture_output=True, text=True, timeout=START_SECONDS, check=False,
    )  # fmt: skip


class Server:
    """`meterhouse up` on a data directory and a free port, with everything it prints kept beside the directory."""

    admin_key = "adm"

    def __init__(self, data_dir: Path, **settings: object):
        self.data_dir = data_dir
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.output = data_dir.with_name(f"{data_dir.name}.out")
        self.errors = data_dir.with_name(f"{data_dir.name}.err")
        self._settings = {"admin_key": self.admin_key, "log_level": "warning", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start it and do not wait."""
        command = [METERHOUSE, "up", "--data-dir", str(self.data_dir), "--port", str(self.port)]
        with self.output.open("ab") as out, self.errors.open("ab") as err:
            self._process = subprocess.Popen(command, env=environment(**self._settings), stdout=out, stderr=err)

    def start(self) -> "Server":
        """Start it and wait until `/health` says that it works."""
        self.launch()
        with client(self.base_url) as http:
            wait_for(lambda: self._is_up(http), "a start of the server", START_SECONDS, pause=0.05)
        return self

    def stop(self) -> None:
        """End it with SIGINT, as Ctrl-C does; it must end in time, and well."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server did not stop within {STOP_SECONDS} s") from None
        assert code == 0, f"the server ended with {code}: {self.errors.read_text()[-2_000:]}"

    def peak_memory(self) -> int:
        """The most resident memory it has had, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def kill(self) -> None:
        """End it with SIGKILL. An embedded PostgreSQL runs on; the next start on the directory takes it over."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def clean_up(self) -> None:
        """End whatever is left of it, by process id."""
        self.kill()
        file = self.data_dir / "postgres" / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            leftover = psutil.Process(int(file.read_text().split()[0]))
            leftover.send_signal(signal.SIGINT)
            leftover.wait(END_SECONDS)

    def client(self, key: str | None = None, timeout: float = 60.0) -> httpx.Client:
        """An HTTP client with a key; without one, with the admin key."""
        return client(self.base_url, key or self.admin_key, timeout)

    def organization(self, name: str = "Test", **fields: object) -> httpx.Client:
        """A client with the key of a fresh organization."""
        with self.client() as admin:
            answer = admin.post("/admin/organizations", json={"organization": {"name": name, **fields}})
        assert answer.status_code == 200, answer.text
        return self.client(answer.json()["organization"]["api_key"])

    def defects(self) -> list[dict[str, object]]:
        """What it has logged as an error so far."""
        lines = self.errors.read_text().splitlines()
        return [one for one in map(_parsed, lines) if one.get("level") not in {"warning", "info", "debug"}]

    def _is_up(self, http: httpx.Client) -> bool:
        assert self._process is not None
        code = self._process.poll()
        assert code is None, f"the server ended with {code} at its start: {self.errors.read_text()[-2_000:]}"
        try:
            return http.get("/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def _parsed(line: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"line": line}


@contextlib.contextmanager
def running(data_dir: Path, **settings: object) -> Iterator[Server]:
    """A server for the length of a block. It is stopped properly where the block ends well."""
    server = Server(data_dir, **settings)
    try:
        yield server.start()
        server.stop()
    finally:
        server.clean_up()
