"""Billing by hand: `/admin/billing_runs` and `meterhouse bill`, on a running server and on none."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.clock import system_now
from tests.factories import event, make_customer, make_metric, make_plan, make_subscription, ok, send_events, standard
from tests.support import Server, client, run_command, running, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose scheduler does not get there first."""
    with running(tmp_path_factory.mktemp("runs") / "data", scheduler_seconds=3_600) as started:
        yield started


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    with client(server.base_url, server.admin_key) as http:
        yield http


def run_by_hand(admin: httpx.Client, **body: object) -> dict[str, Any]:
    begun = ok(admin.post("/admin/billing_runs", json={"billing_run": body}))["billing_run"]
    assert begun["source"] == "manual"

    def finished() -> dict[str, Any] | None:
        run: dict[str, Any] = ok(admin.get(f"/admin/billing_runs/{begun['lago_id']}"))["billing_run"]
        return None if run["status"] == "running" else run

    return wait_for(finished, "the end of the run")


def next_month() -> str:
    today = system_now().replace(day=28) + timedelta(days=40)
    return today.strftime("%Y-%m-%dT%H:%M:%SZ")


def to_be_ended(live: httpx.Client, *, too_much: bool = False) -> None:
    """Two subscriptions on a plan that is deleted: what has to be done is due now. With `too_much` usage it fails."""
    make_customer(live)
    make_plan(live, charges=[standard(make_metric(live, "used", "sum_agg"), "1000000000")], amount_cents=3_100)
    for one in ("one", "two"):
        make_subscription(live, one)
        if too_much:
            send_events(live, [event("used", one, value="1000000000000000")])
    ok(live.delete("/api/v1/plans/plan"))


def test_what_is_due_is_done_and_noted(server: Server, admin: httpx.Client) -> None:
    with server.organization() as live:
        to_be_ended(live)
        run = run_by_hand(admin)
        assert (run["status"], run["terminated_count"], run["failures"], run["error"]) == ("finished", 2, [], None)
        assert run["finished_at"]
        assert run["duration_seconds"] >= 0
        ended = ok(live.get("/api/v1/subscriptions", params={"status[]": "terminated"}))["subscriptions"]
        assert {one["external_id"] for one in ended} == {"one", "two"}
        assert len(ok(live.get("/api/v1/invoices"))["invoices"]) == 1
        again = run_by_hand(admin)
        assert (again["terminated_count"], again["invoices_count"]) == (0, 0)
    listed = ok(admin.get("/admin/billing_runs", params={"per_page": 1}))
    assert listed["billing_runs"][0]["lago_id"] == again["lago_id"]
    assert listed["meta"]["total_count"] >= 2


def test_a_rehearsal_tells_what_would_be_billed_and_changes_nothing(server: Server, admin: httpx.Client) -> None:
    with server.organization() as live:
        make_customer(live)
        make_plan(live, amount_cents=3_100, pay_in_advance=True)
        make_plan(live, code="yen", amount_cents=900, amount_currency="JPY", pay_in_advance=True)
        make_subscription(live, "euro")
        make_subscription(live, "yen", plan_code="yen")
        before = ok(live.get("/api/v1/invoices"))["invoices"]
        told = ok(admin.post("/admin/billing_runs/rehearsal", json={"billing_run": {"until": next_month()}}))[
            "rehearsal"
        ]
        assert told["customers_count"] == 1
        assert told["totals"] == [
            {"currency": "EUR", "invoices_count": 1, "total_amount_cents": 3_100},
            {"currency": "JPY", "invoices_count": 1, "total_amount_cents": 900},
        ]
        assert ok(live.get("/api/v1/invoices"))["invoices"] == before
        now = ok(admin.post("/admin/billing_runs/rehearsal", json={"billing_run": {}}))["rehearsal"]
        assert (now["customers_count"], now["totals"]) == (0, [])
        asked = run_command(
            "bill", "--dry-run", "--until", next_month(), "--port", str(server.port),
            "--data-dir", str(server.data_dir), admin_key=server.admin_key,
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr
        assert "1 customers to bill" in asked.stdout
        assert "31" in asked.stdout
        assert "Nothing was changed" in asked.stdout


def test_one_that_fails_does_not_hold_up_the_rest(server: Server, admin: httpx.Client) -> None:
    with server.organization() as bad, server.organization() as good:
        to_be_ended(bad, too_much=True)
        customer = ok(bad.get("/api/v1/customers/customer"))["customer"]["lago_id"]
        to_be_ended(good)
        asked = run_command(
            "bill", "--port", str(server.port), "--data-dir", str(server.data_dir), admin_key=server.admin_key
        )
        run = ok(admin.get("/admin/billing_runs"))["billing_runs"][0]
        assert (asked.returncode, run["status"], run["failures_count"]) == (1, "finished", 1), asked.stdout
        assert customer in asked.stdout
        assert {one["lago_customer_id"] for one in run["failures"]} == {customer}
        assert all("AmountTooLarge" in one["reason"] for one in run["failures"])
        [invoice] = ok(bad.get("/api/v1/invoices"))["invoices"]
        assert (invoice["status"], invoice["lago_id"]) == ("failed", run["failures"][0]["lago_invoice_id"])
        assert len(ok(good.get("/api/v1/invoices"))["invoices"]) == 1


class TestRefusals:
    def test_later_than_now(self, admin: httpx.Client) -> None:
        answer = admin.post("/admin/billing_runs", json={"billing_run": {"until": next_month()}})
        assert answer.status_code == 422
        assert answer.json()["error_details"] == {"until": ["value_is_out_of_range"]}

    @pytest.mark.parametrize("until", ["yesterday", "", "2024-13-01"])
    def test_no_instant(self, server: Server, admin: httpx.Client, until: str) -> None:
        answer = admin.post("/admin/billing_runs", json={"billing_run": {"until": until}})
        assert answer.status_code == 422
        asked = run_command("bill", "--until", until, "--port", str(server.port))
        assert asked.returncode == 2
        assert "ISO 8601" in asked.stderr

    def test_unknown_run(self, admin: httpx.Client) -> None:
        answer = admin.get("/admin/billing_runs/0")
        assert (answer.status_code, answer.json()["code"]) == (404, "billing_run_not_found")

    def test_without_the_admin_key(self, server: Server) -> None:
        with server.organization() as live:
            assert live.get("/admin/billing_runs").status_code == 401
        for key, said in (("", "admin key"), ("wrong", "does not take")):
            given = {"admin_key": key} if key else {}
            asked = run_command("bill", "--port", str(server.port), "--data-dir", str(server.data_dir), **given)
            assert asked.returncode == 2
            assert said in asked.stderr


def test_without_a_server(server: Server) -> None:
    """Last: the server is stopped for it."""
    with server.organization() as live:
        make_customer(live, external_id="last")
        make_plan(live)
        make_subscription(live, "last", external_customer_id="last")
        ok(live.delete("/api/v1/plans/plan"))
    server.stop()
    rehearsed = run_command("bill", "--dry-run", "--until", next_month(), "--data-dir", str(server.data_dir))
    assert "customers to bill" in rehearsed.stdout, rehearsed.stderr
    billed = run_command("bill", "--data-dir", str(server.data_dir))
    assert "1 ended" in billed.stdout, billed.stderr
    server.start()
    with client(server.base_url, server.admin_key) as http:
        assert ok(http.get("/admin/billing_runs"))["billing_runs"][0]["terminated_count"] == 1
