"""Sending bodies over HTTP: in order, several at a time, and again where the server asks for it."""

from collections.abc import Iterator

import httpx
import pytest

from app.sending import Sender
from tests.support import wait_for


def sender(handler: httpx.MockTransport, patience: float = 100.0) -> Sender:
    http = httpx.Client(transport=handler, base_url="http://server")
    return Sender(http, "/path", {"Content-Type": "text/plain"}, connections=2, patience=patience)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long senders have waited before they sent again; they do not really wait."""
    waited: list[float] = []
    monkeypatch.setattr("threading.Event.wait", lambda self, seconds=None: waited.append(seconds) or self.is_set())
    return waited


def answering(*answers: httpx.Response | Exception) -> httpx.MockTransport:
    """A server that gives these answers one after the other."""
    coming = iter(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        given = next(coming)
        if isinstance(given, Exception):
            raise given
        return given

    return httpx.MockTransport(answer)


def test_a_busy_server_is_asked_again_when_it_wants(waits: list[float]) -> None:
    busy = [httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(503, headers={"Retry-After": "soon"})]
    gone = [httpx.ConnectError("refused"), httpx.ReadError("reset")]
    assert sender(answering(*busy, *gone, httpx.Response(200))).post(b"x").status_code == 200
    assert waits == [7, 0.5, 1, 2]


def test_patience_ends(waits: list[float]) -> None:
    assert sender(answering(httpx.Response(429, headers={"Retry-After": "101"}))).post(b"x").status_code == 429
    with pytest.raises(httpx.ConnectError):
        sender(answering(httpx.ConnectError("refused")), patience=0).post(b"x")
    assert waits == []


def test_other_answers_are_final() -> None:
    for status in (200, 400, 401, 413, 422, 500):
        assert sender(answering(httpx.Response(status))).post(b"x").status_code == status


def test_answers_come_in_the_order_of_the_bodies() -> None:
    taken: list[int] = []

    def bodies() -> Iterator[tuple[bytes, int]]:
        for number in range(200):
            taken.append(number)
            yield b"%d" % number, number

    echo = httpx.MockTransport(lambda request: httpx.Response(200, content=request.content))
    for place, (number, answer) in enumerate(sender(echo).send(bodies())):
        assert (number, answer.text) == (place, str(place))
        assert taken[-1] <= place + 3


def test_a_broken_source_ends_it_while_bodies_wait_to_be_sent_again() -> None:
    asked: list[httpx.Request] = []

    def busy(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(429, headers={"Retry-After": "50"})

    def bodies() -> Iterator[tuple[bytes, int]]:
        yield b"1", 1
        yield b"2", 2
        wait_for(lambda: len(asked) == 2, "both being sent")
        raise ValueError("the file is broken")

    with pytest.raises(ValueError, match="broken"):
        list(sender(httpx.MockTransport(busy)).send(bodies()))
    assert len(asked) == 2
