"""Lists of events: every event once and in order, whatever the page, and what each was read as."""

from typing import Any

import httpx
import pytest

from tests.factories import Json, event, make_metric, ok, problems, send_event, send_events, set_clock
from tests.support import seeded

URL = "/api/v1/events"
ENRICHED = "/api/v1/events_enriched"
NOON = 1_715_342_400
"""2024-05-10 12:00 UTC."""
NASTY = ["a'b", 'a"b', "a\\", "{x:String}", "%s", "a\x00b", "😀", ");--", "\n", "k" * 10_000]


def listed(api: httpx.Client, url: str = URL, per_page: int = 1000, **query: Any) -> list[Json]:
    """All events of a list, page by page."""
    events: list[Json] = []
    page: int | None = 1
    while page is not None:
        answer = ok(api.get(url, params={**query, "per_page": per_page, "page": page}))
        events += answer["events"]
        page = answer["meta"]["next_page"]
    assert answer["meta"]["total_count"] == len(events)
    return events


def ids(events: list[Json]) -> list[str]:
    return [one["transaction_id"] for one in events]


def test_newest_ingested_first_then_by_id(api: httpx.Client, other: httpx.Client) -> None:
    """Whatever their timestamps, subscriptions and codes."""
    chance = seeded(5)
    wanted: list[Json] = []
    for block in range(9):
        sent = [
            event(
                f"code-{chance.randrange(3)}", f"s{chance.randrange(4)}", NOON + chance.randrange(10**7),
                f"{block}-{number:03d}", n=str(number),
            )
            for number in range(chance.randrange(1, 60))
        ]  # fmt: skip
        send_events(api, chance.sample(sent, len(sent)))
        send_events(other, sent[:1])
        wanted = sent + wanted
    for per_page in (1000, 7):
        found = listed(api, per_page=per_page)
        assert ids(found) == ids(wanted)
    assert [one["properties"] for one in found] == [one["properties"] for one in wanted]
    for fields in ({"code"}, {"external_subscription_id"}, {"code", "external_subscription_id"}):
        query = {name: wanted[0][name] for name in fields}
        mine = [one for one in wanted if all(one[name] == value for name, value in query.items())]
        assert 0 < len(mine) < len(wanted)
        for per_page in (1000, 5):
            assert ids(listed(api, per_page=per_page, **query)) == ids(mine)
    half = NOON + 5 * 10**6
    late = [one for one in wanted if one["timestamp"] >= half]
    assert ids(listed(api, timestamp_from="2024-07-07T08:53:20Z")) == ids(late)
    assert ids(listed(api, code="code-1", timestamp_to="2024-07-07T08:53:19.999Z")) == ids(
        [one for one in wanted if one["timestamp"] < half and one["code"] == "code-1"]
    )
    beyond = ok(api.get(URL, params={"page": 1000}))
    assert (beyond["events"], beyond["meta"]["total_count"]) == ([], len(wanted))
    assert len(listed(other)) == 9


@pytest.mark.parametrize("text", NASTY)
def test_any_text_is_data(api: httpx.Client, other: httpx.Client, text: str) -> None:
    for client in (api, other):
        send_events(client, [event("plain", "plain", NOON, "plain")])
    send_events(api, [event(text, text, NOON, text, **{text: text})])
    [found] = listed(api, code=text, external_subscription_id=text)
    assert (found["transaction_id"], found["properties"]) == (text, {text: text})
    assert ids(listed(api)) == [text, "plain"]
    assert listed(other, code=text) == listed(other, external_subscription_id=text) == []


class TestEnriched:
    def test_what_each_metric_reads(self, api: httpx.Client, other: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_metric(api, "calls")
        make_metric(api, "users", "unique_count_agg")
        for code, kind in (
            ("bytes", "sum_agg"),
            ("peak", "max_agg"),
            ("level", "latest_agg"),
            ("disk", "weighted_sum_agg"),
        ):
            make_metric(api, code, kind)
        make_metric(api, "computed", "sum_agg", expression="event.properties.a * 2")
        sent: list[tuple[str, Json, str | None, str | None]] = [
            ("calls", {}, "1", "1.0"),
            ("bytes", {"value": "12.50"}, "12.50", "12.5"),
            ("bytes", {"value": 7}, "7", "7.0"),
            ("bytes", {"value": "many"}, "many", "0.0"),
            ("bytes", {}, None, "0.0"),
            ("peak", {"value": "-1e2"}, "-1e2", "-100.0"),
            ("level", {"value": "3"}, "3", "3.0"),
            ("disk", {"value": "-0.25"}, "-0.25", "-0.25"),
            ("users", {"value": "u1"}, "u1", "0.0"),
            ("users", {"value": 42}, "42", "42.0"),
            ("computed", {"a": "1.25"}, "2.50", "2.5"),
            ("unknown", {"value": "1"}, None, None),
        ]
        for code, properties, _, _ in sent:
            ok(send_event(api, event(code, "sub", f"{NOON}.123", **properties)))
        ok(send_event(other, event("calls")))
        found = listed(api, ENRICHED)
        assert [(one["code"], one["value"], one["decimal_value"]) for one in reversed(found)] == [
            (code, value, decimal) for code, _, value, decimal in sent
        ]
        one = found[-1]
        assert one.keys() == {
            "transaction_id", "external_subscription_id", "code", "timestamp", "enriched_at", "value", "decimal_value",
            "precise_total_amount_cents", "properties",
        }  # fmt: skip
        assert (one["timestamp"], one["external_subscription_id"]) == ("2024-05-10T12:00:00.123Z", "sub")
        assert one["precise_total_amount_cents"] is None
        assert len(one["enriched_at"]) == len(one["timestamp"])
        assert ids(listed(api, ENRICHED, code="users", per_page=1)) == ids(found[2:4])

    def test_when_a_metric_comes_and_goes(self, api: httpx.Client) -> None:
        send_events(api, [event("bytes", timestamp=NOON, value="3")])
        assert [one["value"] for one in listed(api, ENRICHED)] == [None]
        make_metric(api, "bytes", "sum_agg")
        assert [one["value"] for one in listed(api, ENRICHED)] == ["3"]
        ok(api.delete("/api/v1/billable_metrics/bytes"))
        assert [one["value"] for one in listed(api, ENRICHED)] == [None]

    def test_filters_are_those_of_events(self, api: httpx.Client) -> None:
        send_events(api, [event("c", f"s{number % 2}", NOON + number) for number in range(4)])
        assert len(listed(api, ENRICHED, external_subscription_id="s1", timestamp_from="2024-05-10T12:00:02Z")) == 1
        assert problems(api.get(ENRICHED, params={"timestamp_to": "x"})) == {"timestamp_to": ["invalid_date"]}
