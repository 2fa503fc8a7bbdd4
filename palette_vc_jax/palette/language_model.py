"""Send messages to a language model on any server of OpenAI's protocol.

The server is not trusted: its answer is limited in size and time. The key appears in no message and
no file.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

OPENAI = "https://api.openai.com/v1"
MAX_BYTES = 2**20  # maximum bytes of an answer; one color takes about 60
MAX_TRIES = 3  # attempts if the server is busy or fails
MAX_TIMEOUT = 86_400.0  # maximum seconds for an answer
MAX_WAIT = 20.0  # maximum seconds between attempts, even if the server requests more
BUSY = (408, 409, 429)  # status codes that are tried again, as are 500 and above
MAX_QUOTE = 120  # maximum characters of foreign text in a message
MAX_ANSWER = 4000  # maximum characters of an answer that are sent back or reported


@dataclass(frozen=True)
class Server:
    """A language model and its server.

    Raises:
        ValueError: if the address, the key or the timeout is not valid.
    """

    model: str
    url: str = OPENAI
    key: str = field(default="", repr=False)
    timeout: float = 120.0  # seconds for one answer, including all attempts

    def __post_init__(self) -> None:
        if not _is_address(self.url):  # which may hold a password
            raise ValueError(
                "the language model's server needs an address with a valid host and port, such as "
                "http://localhost:11434/v1."
            )
        if not (self.key.isascii() and (self.key.isprintable() or not self.key)):
            raise ValueError(
                "the language model's key has characters that are not printable ASCII."
            )
        if not 0.0 < self.timeout <= MAX_TIMEOUT:
            raise ValueError(
                f"timeout of {self.timeout} seconds; give more than 0, up to {MAX_TIMEOUT:.0f}."
            )

    @property
    def host(self) -> str:
        """Return the host and port without parts of the address that may be secret."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _is_address(url: str) -> bool:
    """Return whether a text is an address of HTTP whose host and port are valid."""
    try:
        parts = urlsplit(url)
        return parts.port != 0 and parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # whose text quotes parts of the address
        return False


def from_environment(model: str | None, url: str | None, key: str, timeout: float) -> Server | None:
    """Return the server that the arguments or the environment name, or None without a model.

    The variables are OPENAI_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY. Without a model, no server
    is contacted, even if a key or an address is set.

    Raises:
        ValueError: if `url` is given without a model, or a value is not valid.
    """
    model = model or os.environ.get("OPENAI_MODEL")
    if not model:
        if url:
            raise ValueError("a server is given but no model; add --words_model.")
        return None
    url = url or os.environ.get("OPENAI_BASE_URL") or OPENAI
    return Server(model, url, key or os.environ.get("OPENAI_API_KEY", "").strip(), timeout)


def ask(server: Server, messages: list[dict[str, str]], extra: Mapping[str, Any]) -> str:
    """Return the text of a model's answer, trying again if the server is busy.

    If the server rejects the request (400, 422), it is sent again without `extra`.
    """
    deadline = time.monotonic() + server.timeout
    result: list[Any] = []

    def work() -> None:
        try:
            result.append(_ask_until(server, messages, dict(extra), deadline))
        except Exception as error:  # raised in the caller's thread, below
            result.append(error)

    # Use a thread, because a server that sends single bytes slowly never triggers the timeout of
    # a socket. A daemon thread does not keep the process alive.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(server.timeout)
    answer = result[0] if result else TimeoutError()
    if isinstance(answer, str):
        return answer
    if isinstance(answer, TimeoutError):
        raise OSError(
            f"{server.model} on {server.host} gave no answer in {server.timeout:g} seconds; try "
            "again, or raise --words_timeout."
        )
    if isinstance(answer, OSError | ValueError) and type(answer) in (OSError, ValueError):
        raise answer
    reason = clean(str(answer), server)
    raise OSError(f"{server.host}: no answer could be read ({reason}); check the address.")


class _StatusError(Exception):
    """An answer with a status of 400 or above."""

    def __init__(self, status: int, wait: float | None, text: str):
        super().__init__(status)
        self.status, self.wait, self.text = status, wait, text


def _ask_until(
    server: Server, messages: list[dict[str, str]], extra: dict[str, Any], deadline: float
) -> str:
    openai = client_library()
    with openai.OpenAI(
        api_key=server.key or "none",  # the client needs a key, and local servers accept any
        base_url=server.url,
        max_retries=0,
        timeout=server.timeout,
        http_client=openai.DefaultHttpxClient(event_hooks={"response": [_raise_for_status]}),
        default_headers={"Accept-Encoding": "identity"},
    ) as client:
        for attempt in range(1, MAX_TRIES + 1):
            try:
                create = client.chat.completions.with_streaming_response.create
                with create(model=server.model, messages=messages, **extra) as response:
                    return _content(_bounded(response.iter_bytes(), server), server)
            except openai.APITimeoutError:
                raise TimeoutError from None
            except (_StatusError, openai.APIConnectionError) as error:
                # Some versions of the client wrap exceptions of hooks, others do not.
                cause = error if isinstance(error, _StatusError) else error.__cause__
                if not isinstance(cause, _StatusError):
                    raise OSError(
                        f"{server.host}: no connection ({clean(str(cause or error), server)}); "
                        "check the address, and that the server is running."
                    ) from None
            if cause.status in (400, 422) and extra and attempt < MAX_TRIES:
                extra = {}
                continue
            wait = min(MAX_WAIT, cause.wait if cause.wait is not None else 0.5 * 2.0**attempt)
            if cause.status not in BUSY and cause.status < 500 or attempt == MAX_TRIES:
                raise _refusal(cause, server) from None
            if time.monotonic() + wait > deadline:
                raise _refusal(cause, server) from None
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def client_library() -> Any:
    """Import the optional client library; raise ValueError if it is missing."""
    try:
        import openai
    except ModuleNotFoundError:
        raise ValueError(
            "a language model needs the package openai; run `pip install -r "
            "requirements-words.txt`, or leave out --words_model."
        ) from None
    return openai


def _raise_for_status(response: Any) -> None:
    """Raise _StatusError with a limited part of the body, before the client reads all of it."""
    if response.status_code < 400:
        return
    text = b""
    for chunk in response.iter_bytes():
        text += chunk[:MAX_ANSWER]
        if len(text) >= MAX_ANSWER:
            break
    after = response.headers.get("retry-after", "")
    wait = float(after) if after.isdecimal() else None
    raise _StatusError(response.status_code, wait, text[:MAX_ANSWER].decode("utf-8", "replace"))


def _refusal(error: _StatusError, server: Server) -> Exception:
    reason = f"{error.status}: {clean(error.text, server)}"
    where = f"{server.model} on {server.host}"
    if error.status in (401, 403):
        return ValueError(f"{where}: the key is refused ({reason}); check the key.")
    if error.status in BUSY or error.status >= 500:
        return OSError(f"{where}: the server is busy or fails ({reason}); try again later.")
    return ValueError(
        f"{where}: the request is refused ({reason}); check the model and the address."
    )


def _bounded(chunks: Iterator[bytes], server: Server) -> bytes:
    body = b""
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_BYTES:
            raise OSError(
                f"{server.model} on {server.host} sends more than {MAX_BYTES // 2**20} MiB, which "
                "is not a palette. Try another model, or leave out --words_model."
            )
    return body


def _content(body: bytes, server: Server) -> str:
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise OSError(
            f"{server.host} does not answer with a chat completion; give the address of an "
            "OpenAI-compatible server, which usually ends in /v1."
        ) from None
    content = content if isinstance(content, str) else ""
    return content.replace(server.key, "[key]") if server.key else content


def clean(text: str, server: Server) -> str:
    """Return foreign text as one short printable line without the key, for a message."""
    if server.key:
        text = text.replace(server.key, "[key]")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 2 * MAX_QUOTE else f"{line[: 2 * MAX_QUOTE]}..."
