"""Settings: every one is a `METERHOUSE_*` environment variable with a default that works on a laptop."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path


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
    environment = os.environ if environment is None else environment
    values: dict[str, object] = {}
    for field in fields(Settings):
        variable = f"METERHOUSE_{field.name.upper()}"
        raw = (given or {}).get(field.name)
        if raw is None:
            raw = environment.get(variable)
        if raw is None or (raw == "" and field.name not in {"admin_key", "database_url", "clickhouse_url"}):
            continue
        values[field.name] = _parsed(variable, field.default, raw)
    return Settings(**values)  # type: ignore[arg-type]


def _parsed(variable: str, default: object, raw: object) -> object:
    if isinstance(default, Path):
        return Path(str(raw))
    if not isinstance(default, int):
        return str(raw)
    try:
        number = int(str(raw))
    except ValueError:
        raise SettingsError(f"{variable} must be a whole number, not {raw!r}") from None
    low, high = (1, 65_535) if variable == "METERHOUSE_PORT" else (0, 2**40)
    if not low <= number <= high:
        raise SettingsError(f"{variable} must lie between {low} and {high}, not {number}")
    return number
