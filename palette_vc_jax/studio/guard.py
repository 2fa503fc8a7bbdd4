"""Refuse requests that do not come from the page, and bound their sizes and their number."""

import asyncio
import hmac
import ipaddress
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from palette_vc_jax import cli

MAX_BODY = 64 * 1024  # bytes
MAX_IMAGE = 64 * 1024**2  # bytes of a body at `IMAGES`
IMAGES = "/api/images"
MAX_REQUESTS = 32  # that are answered at the same time
PATIENCE = 30.0  # seconds until the next part of a body comes
QUOTED = 120  # characters of a path in the log
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; "
    b"img-src 'self' blob:; media-src 'self'; connect-src 'self'; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class TooLarge(Exception):
    """The body of a request has more bytes than are possible at its path."""


class TooSlow(Exception):
    """A part of the body of a request has not come in time."""


class Guard:
    """An ASGI application around another one, which gets only the requests of the page.

    Args:
        app: the application; the token is its `root_path`.
        token: the first part of each path.
        host: the address that the server listens on, or a name for it. On loopback, only names of
            loopback are answered; elsewhere all addresses that are numbers, and `host`.
        log: called with one line for each request that is refused.
    """

    def __init__(self, app: App, token: str, host: str, log: Callable[[str], Any]) -> None:
        self._app = app
        self._token = token.encode()
        self._host = host
        self._log = log
        self._running = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refused = self._refusal(scope)
        if refused is not None:
            await self._refuse(scope, send, *refused)
            return
        self._running += 1

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] >= 400:
                    self._note(scope, message["status"], "not possible")
                kept = [pair for pair in message.get("headers", []) if pair[0] not in HEADERS]
                message["headers"] = [*kept, *HEADERS.items()]
            await send(message)

        try:
            inner = {**scope, "root_path": f"/{self._token.decode()}"}
            await self._app(inner, _bounded(receive, _most(_path(scope))), guarded)
        finally:
            self._running -= 1

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Return the status and the reason if a request is not to be answered."""
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in (b"host", b"origin", b"content-length") and name in headers:
                return 400, f"two headers {name.decode()}"
            headers[name] = value
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._is_own(host):
            return 421, f"the host {host!r}"
        given = scope["path"].split("/")[1:2]
        if not hmac.compare_digest("".join(given).encode(errors="replace"), self._token):
            return 403, "no token, or another one"
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") != f"http://{host}":
            return 403, f"the origin {origin.decode('latin-1')!r}"
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            return 403, "another site"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > _most(_path(scope)):
            return 413, f"a body of {length.decode('latin-1')[:20]} bytes"
        if self._running >= MAX_REQUESTS:
            return 503, f"more than {MAX_REQUESTS} requests at the same time"
        return None

    def _is_own(self, host: str) -> bool:
        """Return whether a Host header names this server, so that no other name leads to it."""
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if parts.netloc != host or parts.username is not None or not name:
            return False
        if name == "localhost" or name == self._host.lower():
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self._host)

    async def _refuse(self, scope: Message, send: Send, status: int, reason: str) -> None:
        self._note(scope, status, reason)
        body = b"The studio does not answer this request. Open the address that it printed.\n"
        headers = [*HEADERS.items(), (b"content-type", b"text/plain; charset=utf-8")]
        headers.append((b"connection", b"close"))  # the rest of a large body is not read
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _note(self, scope: Message, status: int, reason: str) -> None:
        path = scope["path"].replace(self._token.decode(), "TOKEN")[:QUOTED]
        self._log(f"studio: refused {scope['method'][:10]} {path!a}: {reason[:QUOTED]} ({status})")


def is_loopback(host: str) -> bool:
    """Return whether an address is one of this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def log(line: str) -> None:
    """Print one line to stderr."""
    cli.print_line(line, sys.stderr)


def _path(scope: Message) -> str:
    """Return the path of a request after the token."""
    return "/" + scope["path"].partition("/")[2].partition("/")[2]


def _most(path: str) -> int:
    """Return the number of bytes that a body may have."""
    return MAX_IMAGE if path == IMAGES else MAX_BODY


def _bounded(receive: Receive, most: int) -> Receive:
    """Return a `receive` that counts the bytes of the body, and waits `PATIENCE` for each part."""
    count, more = 0, True

    async def bounded() -> Message:
        nonlocal count, more
        try:
            # After the body, only the end of the connection is waited for.
            message = await asyncio.wait_for(receive(), PATIENCE if more else None)
        except TimeoutError:
            raise TooSlow from None
        more = message.get("more_body", False)
        count += len(message.get("body", b""))
        if count > most:
            raise TooLarge
        return message

    return bounded
