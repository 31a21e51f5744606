"""Evaluating a metric's expression for an event (metering spec 2.3).

The result takes the place of the metric's field before the event is stored; what was sent there is kept beside it. An
event is therefore compared with a repetition of it by what was sent, whatever a changed expression, a clock or a metric
that came later would make of it now. A result is never computed again.
"""

from datetime import datetime

import msgspec
from msgspec import Raw

from app.core.expressions import EvaluationError, Expression
from app.metering.events import Event, EventInput, MetricDefinition, Receipt, read_event

TRIED = "tried out"


def evaluated(event: Event, metric: MetricDefinition) -> Event:
    """The event with the result of its metric's expression; the same event where there is none, or it has it already.

    Raises:
        EvaluationError: there is no result; its text is what the sender is told.
    """
    field = metric.field_name
    if metric.expression is None or field is None or field in (event.replaced or ()):
        return event
    sent = event.sent
    result = metric.expression.evaluate(event.code, event.timestamp_ms, sent)
    return msgspec.structs.replace(
        event,
        properties={**event.properties, field: result},
        echo={**event.echo, field: Raw(msgspec.json.encode(result))},
        replaced={**(event.replaced or {}), field: sent.get(field)},
    )


def evaluated_or_kept(event: Event, metric: MetricDefinition) -> Event:
    """`evaluated` for an event that was accepted before there was the expression: without a result it stays as it is,
    and its field counts as absent."""
    try:
        return evaluated(event, metric)
    except EvaluationError:
        return event


def try_out(expression: Expression, given: EventInput, now: datetime) -> str:
    """What an expression gives for an event that is not stored: it needs a code, and no transaction id.

    Raises:
        EvaluationError: there is no result, or it is no event.
    """
    event = read_event(msgspec.structs.replace(given, transaction_id=TRIED), "", now, Receipt(now))
    if not isinstance(event, Event):
        raise EvaluationError("Invalid event")
    return expression.evaluate(event.code, event.timestamp_ms, event.properties)
