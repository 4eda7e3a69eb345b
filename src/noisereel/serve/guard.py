"""Around every route: no body larger than allowed, headers that keep browsers safe, errors in one shape."""

from __future__ import annotations

import json
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noisereel.serve.errors import Refused

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, body: int, hosts: Iterable[str] = ()) -> None:
        self.app, self.body = app, body
        self.hosts = frozenset(hosts)
        self._headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
            await send(message)

        given = dict(scope["headers"])
        if self.hosts and _name(given.get(b"host", b"")) not in self.hosts:
            # A page elsewhere whose name was made to point here (DNS rebinding) sends its own name.
            await _refuse(safely, Refused(421, "This server does not go by that name.", "wrong_host"))
            return
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and _foreign(given):
            await _refuse(safely, Refused(403, "Pages of other sites may not use this server.", "foreign_origin"))
            return
        length = given.get(b"content-length", b"0")
        too_large = Refused(413, f"The request is larger than {self.body} bytes.", "request_too_large")
        if not length.isdigit() or int(length) > self.body:
            await _refuse(safely, too_large)
            return
        received = 0
        started = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.body:
                raise too_large
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await safely(message)

        try:
            await self.app(scope, counted, noted)
        except Refused as refused:
            if started:
                raise
            await _refuse(safely, refused)


async def _refuse(send: Send, refused: Refused) -> None:
    body = json.dumps(refused.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _foreign(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser says that a page of another site sends this; a form needs no permission to be sent anywhere."""
    origin = headers.get(b"origin")
    return origin is not None and origin.rpartition(b"://")[2] != headers.get(b"host")


def _name(host: bytes) -> str:
    """Of a Host header, without the port."""
    text = host.decode("latin-1").lower()
    return text.rpartition(":")[0] if text.rpartition(":")[2].isdigit() and not text.endswith("]") else text
