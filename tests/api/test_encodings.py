"""Compressed request bodies: gzip and zstd, on every path and never beyond the limits."""

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.compat import zstd
from tests.factories import event, make_customer, ok, refusal
from tests.support import Server, seeded

URL = "/api/v1/events"
NOON = 1_715_342_400
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress, "x-gzip": gzip.compress}
ENCODINGS = ["gzip", "zstd"]
TOO_LARGE = (413, "body_too_large")


def send(api: httpx.Client, packed: Any, encoding: str, path: str = URL, **headers: str) -> httpx.Response:
    return api.post(path, content=packed, headers={"Content-Encoding": encoding, **headers})


def count(api: httpx.Client) -> int:
    return int(ok(api.get(URL, params={"per_page": 1}))["meta"]["total_count"])


def in_chunks(packed: bytes, size: int = 1_000) -> Iterator[bytes]:
    """A body whose length is not announced."""
    return (packed[start : start + size] for start in range(0, len(packed), size))


@pytest.mark.parametrize("encoding", [*PACK, "GZIP", "identity, zstd"])
def test_events(api: httpx.Client, encoding: str) -> None:
    pack = PACK[encoding.lower().removeprefix("identity,").strip()]
    sent = event("c", "s", NOON, "t", text="ünï" * 100)
    packed = pack(json.dumps({"event": sent}).encode())
    assert ok(send(api, packed, encoding))["event"]["properties"] == sent["properties"]
    ok(send(api, in_chunks(packed, 7), encoding))
    many = pack(json.dumps({"events": [event("c", "s", NOON, f"t{one}") for one in range(2_000)]}).encode())
    assert len(ok(send(api, in_chunks(many), encoding, f"{URL}/batch"))["events"]) == 2_000
    stream = pack(b"".join(json.dumps(event("c", "s", NOON, f"t{one}")).encode() + b"\n" for one in range(4_000)))
    answer = ok(send(api, stream, encoding, f"{URL}/batch", **{"Content-Type": "application/x-ndjson"}))["stream"]
    assert (answer["accepted"], answer["replays"], answer["complete"]) == (2_000, 2_000, True)
    cloud = {"specversion": "1.0", "id": "1", "source": "s", "type": "c"}
    kind = {"Content-Type": "application/cloudevents+json"}
    assert ok(send(api, pack(json.dumps(cloud).encode()), encoding, **kind))["event"]["transaction_id"] == "s:1"
    assert count(api) == 4_002


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_everything_else(api: httpx.Client, encoding: str) -> None:
    packed = PACK[encoding](b'{"customer": {"external_id": "packed", "name": "P"}}')
    made = ok(send(api, packed, encoding, "/api/v1/customers", **{"Content-Type": "application/json"}))["customer"]
    assert made["name"] == "P"
    make_customer(api, "plain")
    for name in (encoding, "br"):
        got = ok(api.get("/api/v1/customers/packed", headers={"Content-Encoding": name}))["customer"]
        assert got["external_id"] == "packed"
    ok(api.request("DELETE", "/api/v1/customers/plain", headers={"Content-Encoding": encoding}))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_several_members_one_after_the_other(api: httpx.Client, encoding: str) -> None:
    halves = [b'{"event": {"transaction_id": "t", ', b'"code": "c"}}']
    packed = b"".join(map(PACK[encoding], halves))
    assert ok(send(api, packed, encoding))["event"]["code"] == "c"
    assert ok(send(api, in_chunks(packed, 1), encoding))["event"]["code"] == "c"


@pytest.mark.parametrize("encoding", ENCODINGS)
class TestRefusals:
    @pytest.mark.parametrize("path", [URL, f"{URL}/batch", "/api/v1/customers"])
    def test_what_is_not_in_its_encoding(self, api: httpx.Client, encoding: str, path: str) -> None:
        packed = PACK[encoding](json.dumps({"event": event("c", "s", NOON, text="x" * 1_000)}).encode())
        broken = [b"{}", packed[:-1], packed[:10], packed + b"more", bytes(reversed(packed))]
        for body in broken:
            for sent in (body, in_chunks(body, 5)):
                response = send(api, sent, encoding, path)
                assert response.status_code == 400, response.text
                answer = response.json()
                assert answer.keys() == {"status", "error"}
                assert answer["error"].startswith(f"BadRequest: the body is not valid {encoding}: ")
        assert count(api) == 0

    def test_an_empty_body_is_empty(self, api: httpx.Client, encoding: str) -> None:
        response = send(api, b"", encoding)
        assert (response.status_code, response.json()["error"][:26]) == (400, "BadRequest: malformed JSON")

    def test_a_bomb(self, server: Server, api: httpx.Client, encoding: str) -> None:
        """A gigabyte in a megabyte or less; the server must not have it in memory at any moment."""
        bomb = PACK[encoding](bytes(1_000_000)) * 1_000
        assert len(bomb) < 1_100_000
        send(api, bomb, encoding)
        before = server.peak_memory()
        for path in (URL, f"{URL}/batch", "/api/v1/customers"):
            for sent in (bomb, in_chunks(bomb, 50_000)):
                response = send(api, sent, encoding, path, **{"Content-Type": "application/json"})
                assert refusal(response) == TOO_LARGE
                assert api.get("/health").status_code == 200
        assert server.peak_memory() - before < 40_000_000

    def test_what_is_too_large_even_compressed(self, api: httpx.Client, encoding: str) -> None:
        body = seeded(1).randbytes(9_000_000)
        for sent in (body, in_chunks(body, 100_000)):
            assert refusal(send(api, sent, encoding)) == TOO_LARGE

    def test_what_just_fits(self, api: httpx.Client, encoding: str) -> None:
        filled = json.dumps({"event": event("c", "s", NOON, "t")}).encode().ljust(8 * 1024 * 1024)
        ok(send(api, PACK[encoding](filled), encoding))
        assert refusal(send(api, PACK[encoding](filled + b" "), encoding)) == TOO_LARGE


def test_encodings_that_are_not_known(api: httpx.Client) -> None:
    packed = gzip.compress(gzip.compress(b"{}"))
    for encoding in ("br", "deflate", "gzip, gzip", "none"):
        for sent in (packed, in_chunks(packed, 10)):
            response = send(api, sent, encoding)
            assert refusal(response) == (415, "unsupported_content_encoding")
            assert response.headers["Accept-Encoding"] == "gzip, zstd"


def test_a_window_larger_than_http_allows(api: httpx.Client) -> None:
    """A decoder needs memory for the whole window, so RFC 9659 bounds it to 8 MiB."""
    body = json.dumps({"event": event("c", "s", NOON, "t", text="x" * 5_000_000)}).encode()
    options = {zstd.CompressionParameter.window_log: 23}
    ok(send(api, zstd_stream(body, options), "zstd"))
    options = {zstd.CompressionParameter.window_log: 27}
    response = send(api, zstd_stream(body, options), "zstd")
    assert (response.status_code, "memory" in response.json()["error"]) == (400, True)


def zstd_stream(body: bytes, options: dict[Any, int]) -> bytes:
    """One frame that does not tell its size, so that its window stays as large as asked for."""
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(body) + compressor.flush()
