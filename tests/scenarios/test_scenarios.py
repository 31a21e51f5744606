"""Every scenario holds, but for those listed in `not_yet.txt`; these must not hold, so that the list can only shrink."""

from pathlib import Path

import httpx
import pytest

from tests.scenarios.runner import Failed, load, run

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/*.json"))
NOT_YET = [line for line in (HERE / "not_yet.txt").read_text().splitlines() if line and not line.startswith("#")]


def test_the_list_is_sorted_and_names_scenarios() -> None:
    assert sorted(set(NOT_YET)) == NOT_YET
    assert set(NOT_YET) <= {file.stem for file in FILES}
    assert len({file.stem for file in FILES}) == len(FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scenario(api: httpx.Client, file: Path) -> None:
    failure = None
    try:
        run(file, api)
    except Failed as error:
        failure = error
    if file.stem in NOT_YET:
        assert failure is not None, f"“{load(file)['name']}” holds now: remove {file.stem} from not_yet.txt"
    elif failure is not None:
        raise failure
