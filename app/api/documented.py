"""OpenAPI for handlers that read their body themselves: the document still says what they take."""

from dataclasses import dataclass

from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, Reference, RequestBody, Schema

_text = Schema(type=OpenAPIType.STRING)
_fields: dict[str, Schema | Reference] = {
    "code": Schema(type=OpenAPIType.STRING, description="The code of a billable metric."),
    "timestamp": Schema(
        one_of=[Schema(type=OpenAPIType.NUMBER), _text],
        description="Unix time in seconds, decimals allowed; the time of arrival when absent.",
    ),
    "properties": Schema(
        type=OpenAPIType.OBJECT,
        additional_properties=Schema(one_of=[_text, Schema(type=OpenAPIType.NUMBER), Schema(type=OpenAPIType.BOOLEAN)]),
    ),
}
_event = Schema(
    type=OpenAPIType.OBJECT,
    required=["transaction_id", "code"],
    properties={
        "transaction_id": Schema(type=OpenAPIType.STRING, description="Identifies the event in its subscription."),
        "external_subscription_id": _text,
        **_fields,
        "precise_total_amount_cents": Schema(one_of=[_text, Schema(type=OpenAPIType.NUMBER)]),
    },
)


def _body(name: str, schema: Schema) -> RequestBody:
    root = Schema(type=OpenAPIType.OBJECT, required=[name], properties={name: schema})
    return RequestBody(content={"application/json": OpenAPIMediaType(schema=root)}, required=True)


@dataclass
class TakesEvent(Operation):
    """An operation whose body is one event."""

    def __post_init__(self) -> None:
        self.request_body = _body("event", _event)


@dataclass
class TakesEvents(Operation):
    """An operation whose body is a batch of events."""

    def __post_init__(self) -> None:
        self.request_body = _body("events", Schema(type=OpenAPIType.ARRAY, items=_event))


@dataclass
class TakesExpression(Operation):
    """An operation whose body is an expression and an event to try it out on."""

    def __post_init__(self) -> None:
        event = Schema(type=OpenAPIType.OBJECT, required=["code"], properties=_fields)
        root = Schema(
            type=OpenAPIType.OBJECT, required=["expression", "event"], properties={"expression": _text, "event": event}
        )
        self.request_body = RequestBody(content={"application/json": OpenAPIMediaType(schema=root)}, required=True)
