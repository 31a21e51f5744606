"""Runs scenario files: stories of HTTP calls against a fresh sandbox organization, with the answers that must come back.

A scenario is `{"name", "area", "source", "steps"}`; `source` names where its numbers were taken from. A step is either
`{"clock": T}`, which sets the organization's time, or `{"call", "path"}` with these parts besides:

- `body`, `status`: what is sent, and the status that must come back (any 2xx without it). `{name}` in the path or in a
  string of the body stands for a saved value.
- `save`: a name for each value to keep, and its path in the answer.
- `expect`: paths in the answer and their values. A path is keys joined by `.`; `[i]` is an index, `[key=value]` the one
  element of a list whose key has that value. `{"len": n}` expects a length, `{"absent": true}` nothing or null,
  `{"set": […]}` members in any order. Numbers, also those in strings, are compared as exact decimals.
"""

import json
import re
import urllib.parse
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import httpx

TOKEN = re.compile(r"\[([^\]=]+)=([^\]]*)\]|\[(-?\d+)\]|([^.\[\]]+)")
MISSING: Final = object()


class Failed(Exception):
    """A step did not give what it must."""


def load(path: Path) -> Any:
    """A scenario with its numbers exact."""
    return json.loads(path.read_text(), parse_float=Decimal)


def run(path: Path, api: httpx.Client) -> None:
    """Run a scenario in the organization of a client.

    Raises:
        Failed: with the first step that does not hold.
    """
    saved: dict[str, Any] = {}
    for position, step in enumerate(map(as_call, load(path)["steps"]), 1):
        target = fill(step["path"], saved)
        where = f"step {position}: {step['call']} {target}"
        body = fill(step["body"], saved) if "body" in step else None
        status, answer = call(api, step["call"], target, body)
        wanted = step.get("status")
        if status != wanted if wanted else not 200 <= status < 300:
            raise Failed(f"{where}: status {status}, wanted {wanted or '2xx'}: {str(answer)[:400]}")
        for spot, expected in step.get("expect", {}).items():
            got, value = look(answer, fill(spot, saved)), fill(expected, saved)
            if not same(got, value):
                raise Failed(f"{where}: {spot} is {'missing' if got is MISSING else str(got)[:300]}, wanted {value}")
        for name, spot in step.get("save", {}).items():
            got = look(answer, fill(spot, saved))
            if got is MISSING:
                raise Failed(f"{where}: nothing at {spot} to save")
            saved[name] = got


def as_call(step: dict[str, Any]) -> dict[str, Any]:
    """A step, with the setting of the clock as the call that it is."""
    if "clock" not in step:
        return step
    return {"call": "PUT", "path": "/api/v1/test_clock", "body": {"test_clock": {"now": step["clock"]}}}


def call(api: httpx.Client, method: str, path: str, body: Any) -> tuple[int, Any]:
    """Send one request; its status, and its body parsed, or as text where it is no JSON."""
    content = None if body is None else json.dumps(body, default=float)
    url = urllib.parse.quote(path, safe="/?&=%[]:+,-_.~")
    response = api.request(method, url, content=content, headers={"Content-Type": "application/json"})
    try:
        return response.status_code, json.loads(response.text, parse_float=Decimal)
    except ValueError:
        return response.status_code, response.text


def look(value: Any, path: str) -> Any:
    """Follow a path such as `fees[item.type=charge].units` into an answer."""
    for key, wanted, index, name in TOKEN.findall(path):
        if key:
            found = [one for one in value if same(look(one, key), wanted)] if isinstance(value, list) else []
            if len(found) != 1:
                return MISSING
            value = found[0]
        elif index:
            if not isinstance(value, list) or not -len(value) <= int(index) < len(value):
                return MISSING
            value = value[int(index)]
        elif not isinstance(value, dict) or name not in value:
            return MISSING
        else:
            value = value[name]
    return value


def same(got: Any, wanted: Any) -> bool:
    """Whether a value is what was expected."""
    if isinstance(wanted, dict):
        return _matches(got, wanted)
    if isinstance(wanted, list):
        return isinstance(got, list) and len(got) == len(wanted) and all(map(same, got, wanted))
    a, b = number(got), number(wanted)
    if a is not None and b is not None:
        return a == b
    return got is not MISSING and bool(got == wanted)


def _matches(got: Any, wanted: dict[str, Any]) -> bool:
    match wanted:
        case {"len": length, **rest} if not rest:
            return isinstance(got, list) and len(got) == length
        case {"absent": absent, **rest} if not rest:
            return (got is MISSING or got is None) == absent
        case {"set": members, **rest} if not rest:
            return (
                isinstance(got, list)
                and len(got) == len(members)
                and all(any(same(one, member) for one in got) for member in members)
            )
    return isinstance(got, dict) and all(same(got.get(key, MISSING), value) for key, value in wanted.items())


def number(value: Any) -> Decimal | None:
    """A number, or the number in a text."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        return Decimal(value)
    except InvalidOperation:
        return None


def fill(value: Any, saved: dict[str, Any]) -> Any:
    """Replace `{name}` by what was saved under it; a string that is only `{name}` keeps the saved type."""
    if isinstance(value, str):
        whole = re.fullmatch(r"\{(\w+)\}", value)
        if whole and whole[1] in saved:
            return saved[whole[1]]
        return re.sub(r"\{(\w+)\}", lambda match: str(saved.get(match[1], match[0])), value)
    if isinstance(value, list):
        return [fill(one, saved) for one in value]
    if isinstance(value, dict):
        return {key: fill(one, saved) for key, one in value.items()}
    return value
