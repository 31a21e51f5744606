"""What the OpenAPI document would not say by itself: bodies that handlers read themselves, and what answers always have."""

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

_text = Schema(type=OpenAPIType.STRING)
_fields: dict[str, Schema | Reference] = {
    "code": Schema(type=OpenAPIType.STRING, description="The code of a billable metric."),
    "timestamp": Schema(
        one_of=[Schema(type=OpenAPIType.NUMBER), _text],
        description="Unix time in seconds, decimals allowed; the time of arrival when absent.",
    ),
    "properties": Schema(
        type=[OpenAPIType.OBJECT, OpenAPIType.NULL],
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
        "precise_total_amount_cents": Schema(
            one_of=[_text, Schema(type=OpenAPIType.NUMBER), Schema(type=OpenAPIType.NULL)]
        ),
    },
)


_cloud_event = Schema(
    type=OpenAPIType.OBJECT,
    required=["specversion", "id", "source", "type"],
    properties={
        "specversion": Schema(type=OpenAPIType.STRING, enum=["1.0"]),
        "id": Schema(type=OpenAPIType.STRING, description="Identifies the event in its source."),
        "source": Schema(type=OpenAPIType.STRING, description="With the id it becomes the transaction id."),
        "type": Schema(type=OpenAPIType.STRING, description="The code of a billable metric."),
        "subject": Schema(type=OpenAPIType.STRING, description="The external id of the subscription."),
        "time": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
        "data": Schema(type=OpenAPIType.OBJECT, description="The event's properties."),
    },
)
_lines = Schema(type=OpenAPIType.STRING, description="One event a line, as a JSON object; any number of lines.")


def _body(name: str, schema: Schema, **others: Schema) -> RequestBody:
    """A body with a root object in JSON, and what else may be sent, by the end of its media type."""
    root = Schema(type=OpenAPIType.OBJECT, required=[name], properties={name: schema})
    content = {"json": root, "cloudevents+json": _cloud_event, "cloudevents-batch+json": _many(_cloud_event), **others}
    return RequestBody(
        content={f"application/{media}": OpenAPIMediaType(schema=one) for media, one in content.items()}, required=True
    )


def _many(schema: Schema) -> Schema:
    return Schema(type=OpenAPIType.ARRAY, items=schema)


class AnswerSchemas(OpenAPISchemaPlugin):
    """Says of answers that a field with a default is there all the same; only one that may be unset may be absent."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Whether it is a struct that answers are made of: the others are named for what they are."""
        return (
            not field_definition.is_union
            and field_definition.is_subclass_of(msgspec.Struct)
            and not field_definition.type_.__name__.endswith(("Input", "Body"))
        )

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """The struct's schema."""
        hints = field_definition.get_type_hints(include_extras=True, resolve_generics=True)
        fields = msgspec.structs.fields(field_definition.type_)
        schema: Schema = schema_creator.create_component_schema(
            field_definition,
            required=sorted(one.encode_name for one in fields if one.default is not msgspec.UNSET),
            property_fields={
                one.encode_name: FieldDefinition.from_annotation(hints[one.name], name=one.encode_name)
                for one in fields
            },
        )
        return schema


@dataclass
class TakesEvent(Operation):
    """An operation whose body is one event."""

    def __post_init__(self) -> None:
        self.request_body = _body("event", _event)


@dataclass
class TakesEvents(Operation):
    """An operation whose body is a batch of events, or a stream of them."""

    def __post_init__(self) -> None:
        self.request_body = _body("events", _many(_event), **{"x-ndjson": _lines})


@dataclass
class TakesExpression(Operation):
    """An operation whose body is an expression and an event to try it out on."""

    def __post_init__(self) -> None:
        event = Schema(type=OpenAPIType.OBJECT, required=["code"], properties=_fields)
        root = Schema(
            type=OpenAPIType.OBJECT, required=["expression", "event"], properties={"expression": _text, "event": event}
        )
        self.request_body = RequestBody(content={"application/json": OpenAPIMediaType(schema=root)}, required=True)


_estimate = Schema(
    type=OpenAPIType.OBJECT,
    required=["code", "external_subscription_id"],
    properties={
        "external_subscription_id": _text,
        **{name: schema for name, schema in _fields.items() if name != "timestamp"},
        "precise_total_amount_cents": Schema(one_of=[_text, Schema(type=OpenAPIType.NUMBER)]),
        "transaction_id": _text,
    },
)


def _json(name: str, schema: Schema) -> RequestBody:
    root = Schema(type=OpenAPIType.OBJECT, required=[name], properties={name: schema})
    return RequestBody(content={"application/json": OpenAPIMediaType(schema=root)}, required=True)


@dataclass
class TakesEstimate(Operation):
    """An operation whose body is an event that is not sent yet."""

    def __post_init__(self) -> None:
        self.request_body = _json("event", _estimate)


@dataclass
class TakesEstimates(Operation):
    """An operation whose body is a batch of them."""

    def __post_init__(self) -> None:
        self.request_body = _json("events", _many(_estimate))
