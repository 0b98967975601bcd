"""Which web pages may call: cross-origin requests (Fetch standard, section 3.3), off unless origins are listed.

Nothing is ever allowed to everyone, and never with cookies: a page brings its
token in the Authorization header, which it must have got by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import hdrs, web

_MAX_AGE: Final = "600"
_HEADERS: Final = (
    *("Authorization", "Content-Type", "Last-Event-ID", "X-Request-ID", "traceparent", "tracestate"),
    *("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id"),
)
_KNOWN: Final = frozenset(name.lower() for name in _HEADERS)
_PARAMETER: Final = "mcp-param-"
_MAX_PARAMETERS: Final = 64
_EXPOSED: Final = "WWW-Authenticate, Retry-After, X-Request-ID, Mcp-Session-Id"


class Cors:
    """What answers to allowed origins carry.

    Args:
        origins: `scheme://host[:port]` each, as browsers write them; with none there is nothing to do.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.lower() for origin in origins)

    @property
    def is_on(self) -> bool:
        """Whether any origin is allowed."""
        return bool(self._origins)

    def allows(self, origin: str | None) -> bool:
        """Whether pages of this origin may read answers."""
        return origin is not None and origin.lower() in self._origins

    def headers(self, request: web.BaseRequest) -> Mapping[str, str]:
        """For an answer to this request, whatever it is; `Vary` also where the origin is not allowed."""
        origin = request.headers.get(hdrs.ORIGIN)
        if not self._origins:
            return {}
        if origin is None or not self.allows(origin):
            return {"Vary": "Origin"}
        return {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": _EXPOSED,
        }

    def preflight(self, request: web.BaseRequest, methods: Iterable[str]) -> web.Response | None:
        """The answer to a browser that asks before it sends; None where it is no such question of an allowed origin."""
        is_question = request.method == hdrs.METH_OPTIONS and "Access-Control-Request-Method" in request.headers
        if not is_question or not self.allows(request.headers.get(hdrs.ORIGIN)):
            return None
        asked = request.headers.get("Access-Control-Request-Headers", "").lower().split(",")
        names = [name for name in map(str.strip, asked[:_MAX_PARAMETERS]) if name not in _KNOWN and _is_parameter(name)]
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
                "Access-Control-Allow-Headers": ", ".join((*_HEADERS, *names)),
                "Access-Control-Max-Age": _MAX_AGE,
            },
        )


def _is_parameter(name: str) -> bool:
    """Whether a header is one that carries an argument of a tool (MCP 2026-07-28, `x-mcp-header`)."""
    rest = name.removeprefix(_PARAMETER)
    return rest != name and rest.isascii() and rest.replace("-", "").replace("_", "").isalnum()
