"""The sandbox itself: two worlds, one clock, and the servers that show them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime

from meter_sync.sandbox.clock import SandboxClock
from meter_sync.sandbox.http.faults import Faults
from meter_sync.sandbox.http.server import LOOPBACK, LocalServer
from meter_sync.sandbox.http.traffic import Incoming, RequestSeen
from meter_sync.sandbox.openmeter.api import OPENMETER_VERSIONS, OpenMeterApi, OpenMeterVersion
from meter_sync.sandbox.openmeter.world import OpenMeterWorld
from meter_sync.sandbox.stripe.accounts import Accounts
from meter_sync.sandbox.stripe.api import StripeApi
from meter_sync.sandbox.stripe.protocol.permissions import known
from meter_sync.sandbox.stripe.protocol.rate_limits import RateLimits
from meter_sync.sandbox.stripe.world import StripeWorld


@dataclass
class Latency:
    """How long the servers take before they carry a request out, in seconds."""

    stripe_read: float = 0.0
    stripe_write: float = 0.0
    openmeter_query: float = 0.0

    def of_stripe(self, request: Incoming) -> float:
        """Seconds for this request to Stripe."""
        return self.stripe_read if request.method == "GET" else self.stripe_write

    def of_openmeter(self, request: Incoming) -> float:
        """Seconds for this request to OpenMeter."""
        return self.openmeter_query if request.path.endswith("/query") else 0.0


class Sandbox:
    """An embedded Stripe and OpenMeter, served on loopback while one of its contexts is open.

    Given an aware instant, its clock stands still there until it is moved; given none, it runs with
    real time. `openmeter_versions` are those of OpenMeter's API that are served, over one world.
    """

    def __init__(
        self,
        now: datetime | None = None,
        *,
        stripe_key: str = "sk_test_sandbox",
        openmeter_key: str = "om_sandbox",
        openmeter_versions: Collection[OpenMeterVersion] = OPENMETER_VERSIONS,
    ) -> None:
        self.clock = SandboxClock(now)
        self.stripe_key = stripe_key
        self.openmeter_key = openmeter_key
        self.stripe = StripeWorld(self.clock, keys={stripe_key: None})
        self._accounts = Accounts(self.stripe)
        self.openmeter = OpenMeterWorld(self.clock, token=openmeter_key)
        self._openmeter_versions = frozenset(openmeter_versions)
        self._openmeter_api = OpenMeterApi(self.openmeter, self._openmeter_versions)
        self.requests: list[RequestSeen] = []
        self.faults = Faults(self.clock.now)
        self.latency = Latency()
        self.date_skew_seconds = 0.0
        self.rate_limits: RateLimits | None = None
        self._ports: tuple[int, int] | None = None
        self._arrival = threading.Condition()

    @property
    def stripe_url(self) -> str:
        """The base address of the embedded Stripe, while serving."""
        return f"http://{LOOPBACK}:{self._serving_ports()[0]}"

    @property
    def openmeter_url(self) -> str:
        """The base address of the embedded OpenMeter, while serving."""
        return f"http://{LOOPBACK}:{self._serving_ports()[1]}"

    @property
    def openmeter_v3_url(self) -> str:
        """The address of the third version of OpenMeter's API, while serving."""
        return f"{self.openmeter_url}/api/v3"

    @property
    def events_path(self) -> str:
        """Where events are taken, after the address of OpenMeter that `environment` says."""
        return "/api/v1/events" if "v1" in self._openmeter_versions else "/openmeter/events"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point a program at this sandbox, and at v1 if it is served."""
        return {
            "STRIPE_API_KEY": self.stripe_key,
            "STRIPE_API_BASE": self.stripe_url,
            "OPENMETER_URL": self.openmeter_url if "v1" in self._openmeter_versions else self.openmeter_v3_url,
            "OPENMETER_API_KEY": self.openmeter_key,
        }

    def add_account(self, *, key: str | None = None, metadata: Mapping[str, str] | None = None) -> StripeWorld:
        """Add another account of Stripe's with a secret key of its own, by default a new one: its `key`."""
        return self._accounts.add(key, metadata or {})

    def connect_account(self, metadata: Mapping[str, str] | None = None) -> StripeWorld:
        """Add an account that is connected to the platform, which is `stripe`.

        It has no key: the platform's reach it with `Stripe-Account` or `Stripe-Context`.
        """
        return self._accounts.connect(metadata or {})

    def disconnect_account(self, world: StripeWorld) -> None:
        """End the connection of an account: the platform has no access to it any more."""
        self._accounts.disconnect(world)

    def organization_key(
        self,
        accounts: Iterable[StripeWorld],
        *,
        key: str = "sk_org_test_sandbox",
        permissions: Iterable[str] | None = None,
    ) -> str:
        """Add a key of an organization that these accounts are in, and return it.

        Given no permissions it may do everything in each of them, and in what is connected to them.
        """
        self._accounts.add_organization_key(key, accounts, None if permissions is None else known(permissions))
        return key

    def saw(self, request: RequestSeen) -> None:
        """Take note of a request that a server has dealt with."""
        with self._arrival:
            self.requests.append(request)
            self._arrival.notify_all()

    def wait_for(self, method: str, path_end: str, timeout_seconds: float = 60.0) -> RequestSeen:
        """Wait in another thread until a request like this was dealt with, and return it.

        Raise TimeoutError if none comes.
        """

        def found() -> RequestSeen | None:
            like = (r for r in self.requests if r.method == method and r.path.endswith(path_end))
            return next(like, None)

        with self._arrival:
            request = self._arrival.wait_for(found, timeout_seconds)
        if request is None:
            raise TimeoutError(f"no {method} {path_end} within {timeout_seconds} s")
        return request

    @asynccontextmanager
    async def serving(self, stripe_port: int = 0, openmeter_port: int = 0) -> AsyncIterator[None]:
        """Serve in the running event loop; port 0 means a free one."""
        stripe_api = StripeApi(self._accounts, lambda: self.rate_limits)
        stripe = LocalServer(
            "stripe",
            stripe_api,
            self,
            latency_seconds=lambda request: self.latency.of_stripe(request),
            failure=stripe_api.fail,
            locks=stripe_api.locks,
            account=self._accounts.asked_for,
        )
        openmeter = LocalServer(
            "openmeter",
            self._openmeter_api,
            self,
            latency_seconds=lambda request: self.latency.of_openmeter(request),
            failure=lambda request, fault, status: fault.error(self._openmeter_api.failure(request, status)),
        )
        try:
            self._ports = (await stripe.start(stripe_port), await openmeter.start(openmeter_port))
            yield
        finally:
            self._ports = None
            await stripe.stop()
            await openmeter.stop()

    @contextmanager
    def in_background(self, stripe_port: int = 0, openmeter_port: int = 0) -> Iterator[None]:
        """Serve in a thread of its own with its own event loop."""
        started = threading.Event()
        failed: list[BaseException] = []
        stop: list[Callable[[], object]] = []

        async def serve() -> None:
            stopped = asyncio.Event()
            loop = asyncio.get_running_loop()
            async with self.serving(stripe_port, openmeter_port):
                stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
                started.set()
                await stopped.wait()

        def run() -> None:
            try:
                asyncio.run(serve())
            except BaseException as error:
                failed.append(error)
            finally:
                started.set()

        thread = threading.Thread(target=run, name="sandbox", daemon=True)
        thread.start()
        started.wait()
        if failed:
            raise failed[0]
        try:
            yield
        finally:
            stop[0]()
            thread.join()

    def _serving_ports(self) -> tuple[int, int]:
        if self._ports is None:
            raise RuntimeError("the sandbox is not serving")
        return self._ports
