"""A server of this machine that hears pings and notifications, and answers as a test wants."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Heard:
    """A request."""

    method: str
    path: str
    """With its query."""
    body: str

    @property
    def document(self) -> dict[str, Any]:
        """Its body, as JSON."""
        document: dict[str, Any] = json.loads(self.body)
        return document


class Listener:
    """What was heard so far, and how the next requests are answered."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.status = 200
        self.body = b"OK"
        self.headers: dict[str, str] = {}
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.address = ""
        """Host and port."""

    @property
    def paths(self) -> list[str]:
        """Where the requests went, without their queries."""
        return [one.path.partition("?")[0] for one in self.heard]

    def clear(self) -> None:
        """Forget what was heard."""
        self.heard.clear()


@contextmanager
def listening() -> Iterator[Listener]:
    """Listen on this machine."""
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            listener.heard.append(Heard(self.command, self.path, body))
            listener.may_answer.wait(30)
            try:
                self.send_response(listener.status)
                for name, value in listener.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(listener.body)))
                self.end_headers()
                self.wfile.write(listener.body)
            except OSError:  # who asked has gone
                self.close_connection = True

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        listener.may_answer.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A server that hears what it is sent."""
    with listening() as found:
        yield found
