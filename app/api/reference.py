"""The browsable API reference at `/docs`: one page of plain HTML made from the OpenAPI document, without scripts from
elsewhere, so that it works on a machine without internet."""

from collections.abc import Iterator
from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

METHODS = ("get", "post", "put", "patch", "delete")
MOST_DEPTH = 6

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; color: #1b2330; }
h2 { border-bottom: 1px solid #d5dbe5; margin-top: 2.5rem; padding-bottom: .2rem; text-transform: capitalize; }
nav a { display: inline-block; margin-right: .8rem; text-transform: capitalize; }
details { border: 1px solid #d5dbe5; border-radius: 6px; margin: .5rem 0; padding: .4rem .7rem; }
summary { cursor: pointer; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: #f4f6fa; border-radius: 6px; overflow-x: auto; padding: .6rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #e6eaf1; padding: .2rem .5rem; text-align: left; vertical-align: top; }
.method { display: inline-block; font-weight: 700; width: 4.5rem; }
.get { color: #0b6bcb; } .post { color: #187a3c; } .put { color: #9a5b00; } .delete { color: #b3261e; }
.what { color: #5a6577; margin-left: .6rem; }
"""


class ReferencePage(OpenAPIRenderPlugin):
    """Renders the OpenAPI document as one HTML page."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """The page."""
        return page(openapi_schema).encode()


def page(document: dict[str, Any]) -> str:
    """The reference as HTML: a section per tag, an entry per operation with its parameters, body and answer."""
    by_tag: dict[str, list[str]] = {}
    for path, item in sorted(document["paths"].items()):
        for method in METHODS:
            if method in item:
                tag = (item[method].get("tags") or ["other"])[0]
                by_tag.setdefault(tag, []).append(_operation(document, path, method, item[method]))
    info = document["info"]
    links = "".join(f'<a href="#{escape(tag)}">{_title(tag)}</a>' for tag in sorted(by_tag))
    sections = "".join(
        f'<h2 id="{escape(tag)}">{_title(tag)}</h2>{"".join(entries)}' for tag, entries in sorted(by_tag.items())
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>"
        f"<p>{escape(info.get('description') or '')} Send your key as <code>Authorization: Bearer KEY</code>. "
        'The same as a document: <a href="/docs/openapi.json">openapi.json</a>.</p>'
        f"<nav>{links}</nav>{sections}</body></html>"
    )


def _title(tag: str) -> str:
    return escape(tag.replace("_", " "))


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [
        (
            f'<details><summary><span class="method {method}">{method.upper()}</span><code>{escape(path)}</code>'
            f'<span class="what">{escape(operation.get("description") or "")}</span></summary>'
        )
    ]
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
        f"<td>{'required' if one.get('required') else ''}</td><td>{escape(_kind(one.get('schema') or {}))}</td></tr>"
        for one in operation.get("parameters") or ()
    )
    if rows:
        parts.append(f"<table><tr><th>parameter</th><th>in</th><th></th><th>type</th></tr>{rows}</table>")
    body = (operation.get("requestBody") or {}).get("content") or {}
    answer = ((operation.get("responses") or {}).get("200") or {}).get("content") or {}
    for title, content in (("Body", body), ("Answer", answer)):
        for media in content.values():
            text = "\n".join(_outline(document, media.get("schema") or {}, 0))
            parts.append(f"<p>{title}</p><pre>{escape(text)}</pre>")
    return "".join((*parts, "</details>"))


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without its reference, and without the null it may also be."""
    reference = schema.get("$ref")
    if reference:
        found: dict[str, Any] = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
        return found
    choices = [one for one in schema.get("oneOf") or schema.get("anyOf") or () if one.get("type") != "null"]
    return _resolved(document, choices[0]) if len(choices) == 1 else schema


def _kind(schema: dict[str, Any]) -> str:
    choices = schema.get("oneOf") or schema.get("anyOf")
    if choices:
        return " or ".join(dict.fromkeys(_kind(one) for one in choices))
    kind = schema.get("type") or "object"
    kind = kind if isinstance(kind, str) else " or ".join(kind)
    return f"{kind} ({schema['format']})" if schema.get("format") else kind


def _outline(document: dict[str, Any], schema: dict[str, Any], depth: int) -> Iterator[str]:
    """A schema as an indented outline of its fields."""
    schema = _resolved(document, schema)
    if depth > MOST_DEPTH:
        return
    required = set(schema.get("required") or ())
    for name, field in (schema.get("properties") or {}).items():
        inner = _resolved(document, field)
        items = _resolved(document, inner.get("items") or {})
        nested = items if inner.get("type") == "array" else inner
        kind = "list" if inner.get("type") == "array" else _kind(field if "properties" not in inner else inner)
        yield f"{'  ' * depth}{name}{'' if name in required else '?'}: {kind}"
        yield from _outline(document, nested, depth + 1)
