"""`meter-sync webhook` while it serves, and what is delivered to it."""

import hashlib
import hmac
import http.client
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tests.support.world import Process

ACACIA = "2025-02-24.acacia"
SECRET = "whsec_of_the_endpoint"


class Startable(Protocol):
    """What the command can be started in."""

    def start(self, *arguments: str, **overrides: str) -> Process:
        """Start the command, to be signalled or waited for."""


class Served:
    """The command while it serves, and what it logs."""

    def __init__(self, world: Startable, *arguments: str, **environment: str) -> None:
        options = ("--log-format", "json", "--log-level", "debug", "webhook", "--port", "0", *arguments)
        self.process = world.start(*options, **{"STRIPE_WEBHOOK_SECRET": SECRET, **environment})
        self.lines: list[str] = []
        self._arrival = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.logged("webhook_listening")["port"])
        self.url = f"http://127.0.0.1:{self.port}/webhook"

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._arrival:
                self.lines.append(line)
                self._arrival.notify_all()
        with self._arrival:
            self.lines.append('{"event": "end of output"}')
            self._arrival.notify_all()

    def all_logged(self, event: str, **fields: object) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [entry for entry in entries if {"event": event, **fields}.items() <= entry.items()]

    def logged(self, event: str, times: int = 1, **fields: object) -> dict[str, Any]:
        """Wait until this was logged so often, and return the last."""

        self.until(lambda: len(self.all_logged(event, **fields)) >= times)
        return self.all_logged(event, **fields)[-1]

    def done(self, events: int) -> None:
        """Wait until so many events are done."""
        self.until(lambda: sum(entry["events"] for entry in self.all_logged("webhook_done")) >= events)

    def settled(self, deliveries: int) -> None:
        """Wait until so many deliveries are logged, and every event that was queued is done."""
        answers = ("webhook_queued", "webhook_repeated", "webhook_ignored")
        self.until(lambda: sum(len(self.all_logged(answer)) for answer in answers) >= deliveries)
        self.done(len(self.all_logged("webhook_queued")))

    def until(self, is_so: Callable[[], bool]) -> None:
        with self._arrival:
            assert self._arrival.wait_for(lambda: is_so() or bool(self.all_logged("end of output")), 60), self.output
            assert is_so(), self.output

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def end(self, how: signal.Signals | None = signal.SIGTERM) -> int:
        """Signal it, unless that was done already, and return its exit code."""
        if how and self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(60)
        self._reader.join(60)
        assert self.process.stdout
        assert self.process.stderr
        with self.process.stdout as stdout, self.process.stderr:
            assert stdout.read() == ""
        assert "Traceback" not in self.output, self.output
        assert SECRET not in self.output
        return code

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def deliver(self, event: Any, *secrets: str, seconds_ago: float = 0, to: str = "/webhook") -> int:
        """Deliver a signed event and return the status."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        return self.request("POST", to, body, signed(body, *(secrets or (SECRET,)), seconds_ago=seconds_ago))[0]

    @property
    def health(self) -> dict[str, Any]:
        status, body = self.request("GET", "/healthz")
        assert status == 200
        health: dict[str, Any] = json.loads(body)
        return health

    @property
    def queued(self) -> int:
        return int(self.health["queued"])


def signed(body: bytes, *secrets: str, seconds_ago: float = 0) -> dict[str, str]:
    at = int(time.time() - seconds_ago)
    digests = [hmac.new(one.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest() for one in secrets]
    return {"Stripe-Signature": ",".join([f"t={at}", *(f"v1={digest}" for digest in digests)])}


@contextmanager
def serving(world: Startable, *arguments: str, **environment: str) -> Iterator[Served]:
    served = Served(world, *arguments, **environment)
    try:
        yield served
    finally:
        code = served.end()
    assert code == 0


def about(subscription: str, identifier: str = "evt_1", **changes: Any) -> dict[str, Any]:
    """An event that asks for a report of a subscription."""
    return {
        "id": identifier,
        "object": "event",
        "type": "customer.subscription.deleted",
        "livemode": False,
        "data": {"object": {"id": subscription, "object": "subscription"}},
        **changes,
    }
