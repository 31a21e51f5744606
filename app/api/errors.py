"""Exceptions to answers: every one leaves in the contract's error body, and none leaves as a traceback."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import psycopg
import structlog
from litestar import Request, Response
from litestar.exceptions import ClientException, HTTPException, ValidationException
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError

from app.errors import AmountTooLarge, ApiError, BadRequest, Invalid, NotAllowed, NotFound, StoreDown, TooLarge

log = structlog.get_logger(__name__)

AnyRequest = Request[Any, Any, Any]
MISSING_FIELD = re.compile(r"Object missing required field `(\w+)`")
PATH = re.compile(r" - at (?:`key` in )?`\$(.*?)`$")
NAME = re.compile(r"\.(\w+)")
WITHIN = re.compile(r" - at (?:`key` in `\$.*|`\$.*\])`$")
"""The place of an entry of a list or a map, not of a field."""
CONTENT_TOO_LARGE, METHOD_NOT_ALLOWED, NOT_FOUND = 413, 405, 404


def answer(error: ApiError) -> Response[Any]:
    """The response for an error."""
    return Response(error.body(), status_code=error.status, headers=error.headers, media_type="application/json")


def from_msgspec(error: msgspec.DecodeError) -> ApiError:
    """A body that could not be decoded: malformed is 400, a missing root object is 400, a wrong field is 422."""
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return BadRequest(f"malformed JSON: {message}")
    where = PATH.search(message)
    names = NAME.findall(where[1].removeprefix(".data")) if where else []
    missing = MISSING_FIELD.search(message)
    if missing:
        if not names:
            return BadRequest(f"param is missing or the value is empty: {missing[1].replace('data', 'body')}")
        return Invalid({missing[1]: ["value_is_mandatory"]})
    if not names or (len(names) == 1 and not WITHIN.search(message)):
        return BadRequest(f"unexpected value: {message.split(' - at ', maxsplit=1)[0]}")
    return Invalid({names[-1]: ["value_is_out_of_range" if re.search(r"`int` [<>]", message) else "value_is_invalid"]})


def from_litestar(error: HTTPException) -> ApiError:  # noqa: PLR0911 (one return per answer)
    """What the framework refuses by itself."""
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        places = [one for one in error.extra if isinstance(one, Mapping) and "key" in one]
        if places and all(one.get("source") != "body" for one in places):
            return Invalid({str(one["key"]): ["value_is_invalid"] for one in places})
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, msgspec.DecodeError):
            return from_msgspec(cause)
        cause = cause.__cause__
    if error.status_code == NOT_FOUND:
        return NotFound("resource")
    if error.status_code == METHOD_NOT_ALLOWED:
        return NotAllowed("method_not_allowed")
    if error.status_code == CONTENT_TOO_LARGE:
        return TooLarge("body_too_large")
    if isinstance(error, ClientException):
        return BadRequest(error.detail)
    other = ApiError()
    other.status, other.error = error.status_code, error.detail
    return other


def handle_api_error(_: AnyRequest, error: ApiError) -> Response[Any]:
    """Our own errors, as they are."""
    return answer(error)


def handle_http_exception(_: AnyRequest, error: HTTPException) -> Response[Any]:
    """The framework's errors, in our body."""
    return answer(from_litestar(error))


def handle_msgspec(_: AnyRequest, error: msgspec.DecodeError) -> Response[Any]:
    """Bodies that handlers decode themselves."""
    return answer(from_msgspec(error))


def handle_bad_text(_: AnyRequest, error: UnicodeDecodeError) -> Response[Any]:
    """A body that is not UTF-8."""
    return answer(BadRequest(f"malformed JSON: {error}"))


def handle_lost_store(_: AnyRequest, error: Exception) -> Response[Any]:
    """PostgreSQL went away in the middle of a request."""
    log.warning("postgres.down", error=str(error)[:500])
    return answer(StoreDown("postgres"))


def handle_conflict(_: AnyRequest, error: IntegrityError) -> Response[Any]:
    """Two requests made the same thing at once; the later one is told so."""
    log.info("postgres.conflict", error=str(error.orig)[:500])
    return answer(Invalid({"base": ["value_already_exist"]}))


def handle_bad_value(request: AnyRequest, error: DataError) -> Response[Any]:
    """A value that a column cannot hold. Nothing has a NUL in its name, so with one in the path nothing is found."""
    log.info("postgres.bad_value", error=str(error.orig)[:500])
    if "\x00" in request.scope["path"]:
        return answer(NotFound(request.scope["route_handler"].opt.get("resource", "resource")))
    return answer(Invalid({"base": ["value_is_invalid"]}))


def handle_too_much(_: AnyRequest, error: AmountTooLarge) -> Response[Any]:
    """What was asked for would be invoiced at more than an amount can hold."""
    log.info("invoice.too_large", error=str(error))
    return answer(Invalid({"base": ["value_is_out_of_range"]}))


def handle_defect(request: AnyRequest, error: Exception) -> Response[Any]:
    """Everything unforeseen: logged in full here, and told to the client without its insides."""
    log.error("request.failed", method=request.method, path=request.url.path, exc_info=error)
    return answer(ApiError("internal_error"))


HANDLERS: dict[Any, Any] = {
    ApiError: handle_api_error,
    HTTPException: handle_http_exception,
    msgspec.DecodeError: handle_msgspec,
    UnicodeDecodeError: handle_bad_text,
    OperationalError: handle_lost_store,
    InterfaceError: handle_lost_store,
    IntegrityError: handle_conflict,
    DataError: handle_bad_value,
    AmountTooLarge: handle_too_much,
    # The driver's own come from rows that are copied; that they do not fit is a defect.
    psycopg.OperationalError: handle_lost_store,
    psycopg.InterfaceError: handle_lost_store,
    Exception: handle_defect,
}
