"""Which metric reads a code's events, remembered: a change is never missed for having come at a bad moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import uuid4

import pytest

from app.metering.definitions import Definitions, with_expression
from app.stores.postgres import Postgres


class Interrupted:
    """A database in which something happens between a query and the moment its answer is used."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] = lambda: None
        self.queries = 0
        self.rows: list[Any] = []

    @contextmanager
    def session(self) -> Iterator["Interrupted"]:
        yield self

    def execute(self, *_: Any) -> list[Any]:
        self.queries += 1
        self.meanwhile()
        return self.rows


def definitions_in(database: Interrupted) -> Definitions:
    """What is remembered of such a database."""
    return Definitions(cast("Postgres", database))


def test_a_change_during_the_load_is_not_forgotten() -> None:
    database = Interrupted()
    definitions = definitions_in(database)
    organization = uuid4()
    key = (str(organization), "calls")
    database.meanwhile = lambda: definitions.forget(organization, "calls")
    definitions.load([key])
    assert definitions.unknown([key]) == [key]
    database.meanwhile = lambda: None
    definitions.load([key])
    assert definitions.unknown([key]) == []
    assert definitions.of([key]) == {key: None}


def test_a_block_that_is_being_made_keeps_the_definition_it_has_loaded() -> None:
    database = Interrupted()
    definitions = definitions_in(database)
    organization = uuid4()
    key = (str(organization), "calls")
    database.rows = [(organization, "calls", "sum_agg", "value", "event.timestamp", ["region"])]
    definitions.load([key])
    loaded = definitions.of([key])[key]
    assert loaded is not None
    assert (loaded.aggregation, loaded.field_name, loaded.dimension_keys) == ("sum_agg", "value", ("region",))
    definitions.forget(organization, "calls")
    again = definitions.of([key])
    assert again[key] is loaded
    assert with_expression(again) == {key: loaded}
    assert definitions.unknown([key]) == [key]


def test_a_code_that_no_metric_can_have_is_not_asked_for() -> None:
    database = Interrupted()
    definitions = definitions_in(database)
    definitions.load([(str(uuid4()), "a\x00")])
    assert database.queries == 0


def test_forgetting_leaves_none_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.metering.definitions.MOST_CODES", 1)
    definitions = definitions_in(Interrupted())
    keys = [(str(uuid4()), code) for code in ("calls", "bytes")]
    definitions.load(definitions.unknown(keys))
    third = (str(uuid4()), "seats")
    wanted = [keys[0], third]
    definitions.load(definitions.unknown(wanted))
    assert definitions.of(wanted) == dict.fromkeys(wanted)
