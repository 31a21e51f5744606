"""The errors a client can be answered with, and their one body format (metering spec 0.2, billing spec 11.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

Details = Mapping[str, Any] | str


class AmountTooLarge(OverflowError):
    """An invoice would come to more than an amount can hold."""


class ApiError(Exception):
    """An answer other than 200: its status, its body, and the headers that go with it.

    `details` is what is wrong, by field: `{"code": ["value_already_exist"]}`.
    """

    status = 500
    error = "Internal Server Error"

    def __init__(
        self, code: str | None = None, details: Details | None = None, headers: Mapping[str, str] | None = None
    ):
        super().__init__(code or self.error)
        self.code = code
        self.details = details
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON body: status and error always, code and error_details where there are any."""
        body: dict[str, Any] = {"status": self.status, "error": self.error}
        if self.code is not None:
            body["code"] = self.code
        if self.details is not None:
            body["error_details"] = self.details
        return body


class BadRequest(ApiError):
    """The body cannot be read at all, or its root object is missing."""

    status = 400

    def __init__(self, message: str):
        super().__init__()
        self.error = f"BadRequest: {message}"


class Unauthorized(ApiError):
    """No key, or one that opens nothing."""

    status = 401
    error = "Unauthorized"


class Forbidden(ApiError):
    """The key, or the organization, may not do this."""

    status = 403
    error = "Forbidden"


class NotFound(ApiError):
    """Nothing of that name in this organization. Another organization's object is not found either."""

    status = 404
    error = "Not Found"

    def __init__(self, resource: str):
        super().__init__(f"{resource}_not_found")


class NotAllowed(ApiError):
    """A business refusal: the object is there, but not in a state for this."""

    status = 405
    error = "Method Not Allowed"


class TooLarge(ApiError):
    """The body is larger than this service accepts."""

    status = 413
    error = "Content Too Large"


class UnsupportedMediaType(ApiError):
    """The body is in a form, or compressed in a way, that this service does not read."""

    status = 415
    error = "Unsupported Media Type"


class Invalid(ApiError):
    """What was sent breaks a rule; nothing has been changed."""

    status = 422
    error = "Unprocessable Entity"

    def __init__(self, details: Details):
        super().__init__("validation_errors", details)


class TooManyRequests(ApiError):
    """The service takes no more for the moment; the same request may be sent again."""

    status = 429
    error = "Too Many Requests"

    def __init__(self, retry_after: int = 1):
        super().__init__("too_many_requests", headers={"Retry-After": str(retry_after)})


class StoreDown(ApiError):
    """A store does not answer. The request may be sent again; the service recovers by itself."""

    status = 503
    error = "Service Unavailable"

    def __init__(self, store: str, retry_after: int = 2):
        super().__init__(f"{store}_unavailable", headers={"Retry-After": str(retry_after)})
        self.store = store


def invalid(field: str, *codes: str) -> Invalid:
    """The 422 for one field."""
    return Invalid({field: list(codes)})


class Problems:
    """Collects what is wrong with an input, field by field, to answer with all of it at once."""

    def __init__(self) -> None:
        self.details: dict[str, list[str]] = {}

    def add(self, field: str, *codes: str) -> None:
        """Note codes against a field; one that is there already is not repeated."""
        known = self.details.setdefault(field, [])
        known.extend(code for code in codes if code not in known)

    def extend(self, field: str, codes: Sequence[str]) -> None:
        """Note several codes against a field, if there are any."""
        if codes:
            self.add(field, *codes)

    def check(self) -> None:
        """Raise the 422 if anything was noted."""
        if self.details:
            raise Invalid(self.details)
