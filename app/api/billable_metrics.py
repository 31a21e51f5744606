"""`/api/v1/billable_metrics` (metering spec 2.1)."""

from typing import Annotated
from uuid import UUID

import litestar
import msgspec
from litestar import Controller
from msgspec import UNSET, Meta, Struct

from app.api.documented import TakesExpression
from app.api.given import Called, Db, Now, Org, Paging
from app.api.request import UNREADABLE, ExactRequest
from app.api.routes import delete, get, post, put
from app.api.wire import Opt, PageMeta, Str, changes, fill, instant, paginate
from app.catalog.metrics import TRY_OUT, create_metric, delete_metric, find_metric, live_metrics, update_metric
from app.clock import system_now
from app.core.expressions import EvaluationError, InvalidExpression, parse
from app.core.money import PLACES_LIMIT
from app.errors import invalid
from app.metering.evaluation import try_out
from app.metering.events import EventInput, explain_undecodable
from app.models import BillableMetric

Places = Annotated[int, Meta(ge=-PLACES_LIMIT, le=PLACES_LIMIT)]


class FilterInput(Struct):
    key: Str | Opt | None = UNSET
    values: list[Str] | Opt | None = UNSET


class BillableMetricInput(Struct):
    name: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    aggregation_type: Str | Opt | None = UNSET
    recurring: bool | Opt | None = UNSET
    expression: Str | Opt | None = UNSET
    field_name: Str | Opt | None = UNSET
    weighted_interval: Str | Opt | None = UNSET
    rounding_function: Str | Opt | None = UNSET
    rounding_precision: Places | Opt | None = UNSET
    filters: list[FilterInput] | Opt | None = UNSET


class BillableMetricBody(Struct):
    billable_metric: BillableMetricInput


class FilterObject(Struct):
    key: str
    values: list[str]


class BillableMetricObject(Struct, kw_only=True):
    lago_id: UUID
    name: str
    code: str
    description: str | None
    aggregation_type: str
    recurring: bool = False
    rounding_function: str | None
    rounding_precision: int | None
    created_at: str
    expression: str | None = None
    field_name: str | None
    weighted_interval: str | None = None
    filters: list[FilterObject]
    active_subscriptions_count: int = 0
    draft_invoices_count: int = 0
    plans_count: int = 0


class BillableMetricAnswer(Struct):
    billable_metric: BillableMetricObject


class BillableMetricsAnswer(Struct):
    billable_metrics: list[BillableMetricObject]
    meta: PageMeta


class ExpressionBody(Struct):
    """`expression` and the event it is tried out on; the values of its properties keep their literal text."""

    expression: str | None = None
    event: EventInput | None = None


class ExpressionResult(Struct):
    value: str


class ExpressionAnswer(Struct):
    expression_result: ExpressionResult


_tried = msgspec.json.Decoder(ExpressionBody)


def metric_object(metric: BillableMetric) -> BillableMetricObject:
    """A metric as it is on the wire."""
    return fill(
        BillableMetricObject,
        metric,
        lago_id=metric.id,
        created_at=instant(metric.created_at),
        filters=[FilterObject(one["key"], one["values"]) for one in metric.filters],
    )


class BillableMetricController(Controller):
    path = "/billable_metrics"
    tags = ["billable_metrics"]
    opt = {"resource": "billable_metric"}

    @post()
    def create_billable_metric(
        self, data: BillableMetricBody, db: Db, organization: Org, now: Now
    ) -> BillableMetricAnswer:
        """Make a metric."""
        metric = create_metric(db, organization.id, changes(data.billable_metric), now)
        return BillableMetricAnswer(metric_object(metric))

    @litestar.post(f"/{TRY_OUT}", status_code=200, operation_class=TakesExpression)
    async def evaluate_expression(self, request: ExactRequest, caller: Called) -> ExpressionAnswer:
        """Try an expression out on an event. Nothing is stored."""
        body = await request.body()
        try:
            given = _tried.decode(body)
        except UNREADABLE as error:
            raise explain_undecodable(error, batch=False) from error
        if not given.expression:
            raise invalid("expression", "value_is_mandatory")
        if given.event is None:
            raise invalid("event", "value_is_mandatory")
        try:
            result = try_out(parse(given.expression), given.event, caller.now)
        except InvalidExpression:
            raise invalid("expression", "invalid_expression") from None
        except EvaluationError:
            raise invalid("event", "invalid_event") from None
        return ExpressionAnswer(ExpressionResult(result))

    @get()
    def list_billable_metrics(self, db: Db, organization: Org, paging: Paging) -> BillableMetricsAnswer:
        """All metrics, newest first."""
        metrics, meta = paginate(db, live_metrics(organization.id), paging)
        return BillableMetricsAnswer([metric_object(metric) for metric in metrics], meta)

    @get("/{code:path}")
    def get_billable_metric(self, code: str, db: Db, organization: Org) -> BillableMetricAnswer:
        """One metric."""
        return BillableMetricAnswer(metric_object(find_metric(db, organization.id, code[1:])))

    @put("/{code:path}")
    def update_billable_metric(
        self,
        code: str,
        data: BillableMetricBody,
        db: Db,
        organization: Org,
        now: Now,
    ) -> BillableMetricAnswer:
        """Change a metric. Once a plan prices it, only its name, description and filters can change."""
        metric = find_metric(db, organization.id, code[1:], lock=True)
        update_metric(db, metric, changes(data.billable_metric), now)
        return BillableMetricAnswer(metric_object(metric))

    @delete("/{code:path}")
    def remove_billable_metric(self, code: str, db: Db, organization: Org, now: Now) -> BillableMetricAnswer:
        """Delete a metric, its charges from all plans, and its events of the subscriptions on these plans."""
        metric = find_metric(db, organization.id, code[1:], lock=True)
        delete_metric(db, metric, now, received_before=system_now())
        return BillableMetricAnswer(metric_object(metric))
