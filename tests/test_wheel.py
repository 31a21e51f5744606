"""The wheel: an installed Meterhouse has its SQL files and migrations with it."""

import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parent.parent


def test_a_wheel_has_every_file_the_program_reads(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"app/{file.relative_to(ROOT)}"
        for folder in ("clickhouse", "postgres")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in {".sql", ".py", ".mako"}
    }
    assert len(wanted) > 20
    assert wanted - packed == set()
    assert {f"{file.relative_to(ROOT)}" for file in (ROOT / "app").rglob("*.py")} - packed == set()
