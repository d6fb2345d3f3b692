"""The page at `/docs`: every call with an example, as plain HTML.

It needs no script, no font and nothing from another machine, so that it works on an isolated
network and under a strict Content-Security-Policy.
"""

from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--accent:#0b6e6e}
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:.2rem}article{border:1px solid var(--line);border-radius:.5rem;margin:1rem 0;
padding:.8rem 1rem}h2{font-size:1.05rem;margin:0}code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:var(--soft);padding:.7rem;border-radius:.4rem;overflow-x:auto;margin:.6rem 0 0}
.verb{display:inline-block;min-width:3.6rem;text-align:center;border-radius:.3rem;color:#fff;
background:var(--accent);font-size:.85rem;margin-right:.6rem}p{margin:.4rem 0}
"""

_ERRORS = (
    "Whatever is not accepted is answered with an OperationOutcome: what is wrong, where, and how "
    "to mend it. <b>503</b> with Retry-After means: nothing was accepted, send it again."
)

#: Sent with the page: nothing may be loaded, only the style that stands in it.
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def docs_page(document: dict[str, Any], base_url: str) -> str:
    """Render an OpenAPI document.

    Args:
        document: The document served at `/openapi.json`.
        base_url: Address of this gateway, for the examples.
    """
    calls = "".join(
        _call(base_url, path, verb, call)
        for path, verbs in document["paths"].items()
        for verb, call in verbs.items()
    )
    about = escape(document["info"]["description"])
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Nadi API</title>'
        '<meta name="viewport" content="width=device-width"><style>'
        f"{_STYLE}</style><h1>Nadi API</h1><p>{about}</p><p>{_ERRORS}</p>"
        '<p>Machine-readable: <a href="/openapi.json">/openapi.json</a> · '
        '<a href="/fhir/metadata">/fhir/metadata</a> · '
        f'<a href="/site.schema.json">/site.schema.json</a></p>{calls}</html>'
    )


def _call(base_url: str, path: str, verb: str, call: dict[str, Any]) -> str:
    answers = " · ".join(
        f"<b>{escape(status)}</b> {escape(answer['description'])}"
        for status, answer in call["responses"].items()
        if status.startswith("2")
    )
    return (
        f'<article><h2><span class="verb">{verb.upper()}</span><code>{escape(path)}</code></h2>'
        f"<p>{escape(call['summary'])}</p><p>{answers}</p><p>{_who(call)}</p>"
        f"<pre>{escape(_example(base_url, path, verb, call))}</pre></article>"
    )


def _who(call: dict[str, Any]) -> str:
    if not call["security"]:
        return "Needs no token."
    return f"Needs a token of role <b>{escape(' or '.join(call['x-nadi-roles']))}</b>."


def _example(base_url: str, path: str, verb: str, call: dict[str, Any]) -> str:
    filled = path.replace("{type}", "Observation").replace("{id}", "example-1")
    if path in ("/fhir/Observation", "/fhir/RiskAssessment", "/fhir/AuditEvent"):
        filled += "?patient=Patient/example-1&_count=20"
    lines = [f"curl -X {verb.upper()} '{base_url}{filled}'"]
    if call["security"]:
        lines.append('-H "Authorization: Bearer $NADI_TOKEN"')
    if "requestBody" in call:
        lines += ["-H 'Content-Type: application/fhir+json'", "--data-binary @resource.json"]
    return " \\\n  ".join(lines)
