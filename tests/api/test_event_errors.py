"""`/api/v1/event_errors`: what the hourly checks find, in a sandbox whenever its clock passes a full hour."""

import httpx

from tests.factories import event, make_metric, ok, send_events, set_clock


def found(api: httpx.Client) -> list[dict]:
    return ok(api.get("/api/v1/event_errors"))["event_errors"]


def shop(api: httpx.Client) -> httpx.Client:
    """An organization with a metric of each kind, at ten past ten."""
    set_clock(api, "2024-05-10T10:10:00Z")
    make_metric(api, "calls")
    make_metric(api, "bytes", "sum_agg", filters=[{"key": "region", "values": ["eu", "us"]}])
    make_metric(api, "users", "unique_count_agg")
    return api


def test_the_errors_of_an_hour(api: httpx.Client) -> None:
    shop(api)
    send_events(
        api,
        [
            event("calls", transaction="fine1"),
            event("bytes", transaction="fine2", value="-1.50", region="eu"),
            event("bytes", transaction="fine3", value=0),
            event("users", transaction="fine4", value="u"),
            event("nothing", transaction="code2"),
            event("nothing", "other", transaction="code1"),
            event("bytes", transaction="absent"),
            event("bytes", transaction="text", value="ten"),
            event("bytes", transaction="exponent", value="1e3"),
            event("bytes", transaction="huge", value="1" * 21),
            event("users", transaction="item"),
            event("bytes", transaction="both", value="x", region="mars"),
            event("bytes", transaction="filter", value=1, region=""),
        ],
    )
    set_clock(api, "2024-05-10T10:59:59Z")
    assert found(api) == []
    set_clock(api, "2024-05-10T11:00:00Z")
    (one,) = found(api)
    assert one.pop("checked_at").endswith("Z")
    assert one == {
        "hour": "2024-05-10T10:00:00Z",
        "invalid_code": ["code1", "code2"],
        "missing_aggregation_property": ["absent", "both", "exponent", "huge", "item", "text"],
        "missing_group_key": None,
        "invalid_filter_values": ["both", "filter"],
        "counts": {"invalid_code": 2, "missing_aggregation_property": 6, "invalid_filter_values": 2},
    }


def test_each_event_is_checked_once(api: httpx.Client) -> None:
    shop(api)
    send_events(api, [event("nothing", transaction="first")])
    set_clock(api, "2024-05-10T15:30:00Z")
    send_events(api, [event("nothing", transaction="second")])
    set_clock(api, "2024-05-10T15:59:00Z")
    set_clock(api, "2024-05-10T16:00:00Z")
    set_clock(api, "2024-05-11T16:00:00Z")
    send_events(api, [event("calls")])
    set_clock(api, "2024-05-12T16:00:00Z")
    assert [(one["hour"], one["invalid_code"]) for one in found(api)] == [
        ("2024-05-10T15:00:00Z", ["second"]),
        ("2024-05-10T10:00:00Z", ["first"]),
    ]


def test_ids_come_as_they_were_sent(api: httpx.Client) -> None:
    shop(api)
    ids = ["a\x00b", "\U0001f600", '"quoted"', "line\n"]
    send_events(api, [event("nothing", transaction=one) for one in ids])
    set_clock(api, "2024-05-10T11:00:00Z")
    assert sorted(found(api)[0]["invalid_code"]) == sorted(ids)


def test_the_field_of_an_expression(api: httpx.Client) -> None:
    shop(api)
    send_events(api, [event("disk", transaction="fine", mb=1), event("disk", transaction="sent", value=5)])
    make_metric(api, "disk", "sum_agg", expression="event.properties.mb * 2")
    set_clock(api, "2024-05-10T11:00:00Z")
    (one,) = found(api)
    assert one["missing_aggregation_property"] == ["sent"]


def test_lists_are_cut_and_counts_are_not(api: httpx.Client) -> None:
    shop(api)
    send_events(api, [event("nothing", transaction=f"t{number:04}") for number in range(1_500)])
    set_clock(api, "2024-05-10T11:00:00Z")
    (one,) = found(api)
    assert one["invalid_code"] == [f"t{number:04}" for number in range(1_000)]
    assert one["counts"]["invalid_code"] == 1_500


def test_another_organization_sees_nothing(api: httpx.Client, other: httpx.Client) -> None:
    shop(api)
    send_events(api, [event("nothing")])
    set_clock(api, "2024-05-10T11:00:00Z")
    assert len(found(api)) == 1
    assert found(other) == []
