"""A server that speaks the chat protocol over a real socket and answers as a test tells it to."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each question to the next answer; the last one serves for all that follow."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = self.server.asked
        asked.append(json.loads(body) | {"authorization": self.headers.get("Authorization")})
        answers = self.server.answers
        try:
            answers[min(len(asked), len(answers)) - 1](self, asked[-1])
        except (BrokenPipeError, ConnectionResetError):
            pass

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """Send a whole response."""
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Keep quiet."""


def says(text: str | None) -> Answer:
    """Answer with `text` as the model's message."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return raw(200, json.dumps(body).encode())


def raw(status: int, body: bytes, **headers: str) -> Answer:
    """Answer with these bytes."""
    return lambda handler, asked: handler.reply(status, body, **headers)


def hangs(seconds: float) -> Answer:
    """Take the question and say nothing."""
    return lambda handler, asked: time.sleep(seconds)


def drips(seconds: float, gap: float) -> Answer:
    """Send a byte now and then, so that no read ever times out; in the head of the response."""

    def answer(handler: Handler, asked: dict[str, Any]) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(gap)

    return answer


@contextmanager
def serving(*answers: Answer) -> Iterator[ThreadingHTTPServer]:
    """Serve on a free port; `.url` is its address, `.asked` the questions that came."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.answers, server.asked = answers, []
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
