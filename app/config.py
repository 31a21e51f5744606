"""Settings: every one is a `METERHOUSE_*` environment variable with a default that works on a laptop."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

PREFIX = "METERHOUSE_"
LARGEST = 2**40
LIMITS = {
    "port": (1, 65_535),
    "clickhouse_handles": (1, 1_000),
    "database_connections": (1, 1_000),
    "rollup_linger_ms": (0, 60_000),
    "reconcile_seconds": (1, 86_400),
    "scheduler_seconds": (1, 86_400),
    "billing_delay_seconds": (0, 30 * 86_400),
}
"""The least and the most that a number may be; others go from 1 to `LARGEST`."""

COMMANDS = {f"{PREFIX}URL", f"{PREFIX}API_KEY"}
"""Variables of single commands, which tell them where a server is."""


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names the variable and what it wants."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the service can be told from outside.

    The variable of a field is `METERHOUSE_` and the field's name in capitals. With `database_url` or
    `clickhouse_url` empty the engine is embedded and keeps its data under `data_dir`.
    """

    data_dir: Path = Path("meterhouse-data")
    host: str = "127.0.0.1"
    port: int = 3000
    admin_key: str = ""
    database_url: str = ""
    clickhouse_url: str = ""
    clickhouse_handles: int = 4
    database_connections: int = 10
    max_batch_events: int = 10_000
    max_body_bytes: int = 8 * 1024 * 1024
    max_line_bytes: int = 1024 * 1024
    stream_wait_seconds: int = 30
    max_queued_events: int = 100_000
    max_block_events: int = 20_000
    max_page_size: int = 1_000
    rollup_linger_ms: int = 500
    reconcile_seconds: int = 60
    scheduler_seconds: int = 30
    billing_delay_seconds: int = 600
    close_chunk: int = 2_000
    max_wallets: int = 6
    log_level: str = "warning"

    @property
    def embedded(self) -> bool:
        """Whether this process holds an engine of its own, and so must be the only one on its data directory."""
        return not (self.database_url and self.clickhouse_url)


def load_settings(environment: Mapping[str, str] | None = None, given: Mapping[str, object] | None = None) -> Settings:
    """Settings from the environment; `given` (from the command line, None meaning not given) goes first.

    Raises:
        SettingsError: a value is not of its field's kind, or out of range.
    """
    settings, wrong = read_settings(environment, given)
    if wrong:
        raise SettingsError(wrong[0])
    return settings


def read_settings(
    environment: Mapping[str, str] | None = None, given: Mapping[str, object] | None = None
) -> tuple[Settings, list[str]]:
    """The same, with every value that cannot be used left at its default, and a sentence about each of these."""
    environment = os.environ if environment is None else environment
    values: dict[str, object] = {}
    wrong = []
    for field in fields(Settings):
        raw = (given or {}).get(field.name)
        if raw is None:
            raw = environment.get(variable_of(field.name))
        if raw is None or (raw == "" and field.name not in {"admin_key", "database_url", "clickhouse_url"}):
            continue
        try:
            values[field.name] = _parsed(field.name, field.default, raw)
        except SettingsError as error:
            wrong.append(str(error))
    return Settings(**values), wrong  # type: ignore[arg-type]


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none."""
    known = {variable_of(field.name) for field in fields(Settings)} | COMMANDS
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def variable_of(name: str) -> str:
    """The environment variable of a field."""
    return f"{PREFIX}{name.upper()}"


def _parsed(name: str, default: object, raw: object) -> object:
    if isinstance(default, Path):
        return Path(str(raw))
    if name == "log_level" and str(raw).upper() not in logging.getLevelNamesMapping():
        raise SettingsError(f"{variable_of(name)} must be debug, info, warning or error, not {raw!r}")
    if not isinstance(default, int):
        return str(raw)
    try:
        number = int(str(raw))
    except ValueError:
        raise SettingsError(f"{variable_of(name)} must be a whole number, not {raw!r}") from None
    low, high = LIMITS.get(name, (1, LARGEST))
    if not low <= number <= high:
        raise SettingsError(f"{variable_of(name)} must lie between {low} and {high}, not {number}")
    return number
