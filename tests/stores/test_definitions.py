"""Which metric reads a code's events, remembered: a change is never missed for having come at a bad moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from app.metering.definitions import Definitions


class Interrupted:
    """A database in which something happens between a query and the moment its answer is used."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] = lambda: None
        self.queries = 0

    @contextmanager
    def session(self) -> Iterator["Interrupted"]:
        yield self

    def execute(self, *_: Any) -> list[Any]:
        self.queries += 1
        self.meanwhile()
        return []


def test_a_change_during_the_load_is_not_forgotten() -> None:
    database = Interrupted()
    definitions = Definitions(database)  # type: ignore[arg-type]
    organization = uuid4()
    key = (str(organization), "calls")
    database.meanwhile = lambda: definitions.forget(organization, "calls")
    definitions.load([key])
    assert definitions.unknown([key]) == [key]
    database.meanwhile = lambda: None
    definitions.load([key])
    assert definitions.unknown([key]) == []
    assert definitions.get(key) is None


def test_a_code_that_no_metric_can_have_is_not_asked_for() -> None:
    database = Interrupted()
    definitions = Definitions(database)  # type: ignore[arg-type]
    definitions.load([(str(uuid4()), "a\x00")])
    assert database.queries == 0
