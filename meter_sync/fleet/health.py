"""What a worker says of itself over HTTP: whether it is well, and figures for Prometheus."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meter_sync.config import Configuration
from meter_sync.errors import MeterSyncError
from meter_sync.fleet.kinds import Kind
from meter_sync.fleet.processes import Fleet, Processes
from meter_sync.fleet.queue import POLLS_EACH_SECONDS, JobQueue
from meter_sync.fleet.tick import TICKS_EACH_SECONDS
from meter_sync.monitor.exposition import Known
from meter_sync.monitor.metrics import Values, known

HEALTH_PATH = "/healthz"
METRICS_PATH = "/metrics"
_POLLS_MISSED = 3
_TICKS_MISSED = 5
_FIGURES_LAST_SECONDS = 60.0

log = structlog.get_logger()


@dataclass(slots=True)
class Health:
    """Whether a worker does what it is there for."""

    queue: JobQueue
    processes: Processes
    at_once: int
    """How many jobs of a kind it takes at once."""
    silent_seconds: float
    """So long without looking for jobs of a kind, though there is room for one, it counts as ill."""
    ticked_at: float = field(default_factory=time.monotonic)
    """When it last saw to it that what is due is queued, in monotonic seconds."""
    is_connected: bool = False
    """Whether the queue can be used: not before it was connected to, nor while the database is away."""

    is_stalled: bool = False
    """Whether it has been ill for so long that it is to be started anew."""

    @property
    def not_looked_for_seconds(self) -> float:
        """How long no job was looked for of a kind of which there is room for one."""
        begun = Counter(job.kind for job in self.processes.under_way)
        with_room = (kind for kind in Kind if begun[kind] < self.at_once)
        return max((self.queue.not_looked_for_seconds(kind) for kind in with_room), default=0.0)

    @property
    def ill_after_seconds(self) -> float:
        """So long it may not look for jobs."""
        return max(self.silent_seconds, _POLLS_MISSED * POLLS_EACH_SECONDS)

    def trouble(self) -> str | None:
        """Return what is wrong with it, or None while all is well."""
        if not self.is_connected:
            return "it has no connection to the ledger's server"
        if self.not_looked_for_seconds > self.ill_after_seconds:
            return f"it has not looked for jobs for {self.not_looked_for_seconds:.0f} s"
        silent = time.monotonic() - self.ticked_at
        if silent > _TICKS_MISSED * TICKS_EACH_SECONDS:
            return f"it has not looked for what is due for {silent:.0f} s"
        return None


class _OfWorker(Collector):
    """The figures of one worker, as it is when they are asked for."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        """Yield each metric."""
        health = self._health
        is_well = float(health.trouble() is None)
        yield GaugeMetricFamily("meter_sync_worker_up", "Whether the worker is well: 1, or else 0.", is_well)
        running = float(len(health.processes.under_way))
        yield GaugeMetricFamily("meter_sync_worker_jobs", "Runs that the worker has under way.", running)
        slots = GaugeMetricFamily("meter_sync_worker_slots", "Runs of a kind that the worker takes at once.")
        slots.add_metric([], health.at_once)
        yield slots
        silent = GaugeMetricFamily(
            "meter_sync_worker_not_fetched_seconds",
            "How long the worker has not looked for jobs of a kind.",
        )
        silent.add_metric([], health.not_looked_for_seconds)
        yield silent
        ended = CounterMetricFamily(
            "meter_sync_worker_runs", "Runs that the worker has carried out.", labels=("account", "kind", "exit_code")
        )
        for (job, code), many in health.processes.ended.items():
            ended.add_metric([job.account, job.kind.value, str(code)], many)
        yield ended


class Figures:
    """What the ledger says of each account, as it was at most a minute ago: whoever asks often costs nothing more."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._read_at: float | None = None
        self._known: Mapping[str, Values] = {}
        self._reading = asyncio.Lock()

    async def known(self) -> Mapping[str, Values]:
        """Return it by the names of the accounts; of one whose books cannot be read there is nothing."""
        async with self._reading:
            if self._read_at is None or time.monotonic() - self._read_at > _FIGURES_LAST_SECONDS:
                with suppress(MeterSyncError):
                    accounts = list(await self._fleet.accounts())
                    self._known = await asyncio.to_thread(self._read, accounts)
                self._read_at = time.monotonic()
            return self._known

    def _read(self, accounts: Sequence[Configuration]) -> Mapping[str, Values]:
        found = {}
        for one in accounts:
            with suppress(MeterSyncError):
                found[one.account] = known(one.settings(()), self._fleet.clock())
        return found


@asynccontextmanager
async def answering(health: Health, figures: Figures, host: str, port: int) -> AsyncIterator[None]:
    """Answer on an address while the block lasts. Raise MeterSyncError if it cannot be listened on."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_OfWorker(health))

    async def say(_request: web.Request) -> web.Response:
        trouble = health.trouble()
        said = {"status": trouble or "ok", "jobs": sorted(map(str, health.processes.under_way))}
        return web.json_response(said, status=503 if trouble else 200)

    async def show(_request: web.Request) -> web.Response:
        of_accounts = CollectorRegistry()
        of_accounts.register(Known(await figures.known()))
        return web.Response(text=(generate_latest(registry) + generate_latest(of_accounts)).decode())

    application = web.Application()
    application.router.add_get(HEALTH_PATH, say)
    application.router.add_get(METRICS_PATH, show)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise MeterSyncError(
                f"cannot listen on {host}, port {port}: {error.strerror or error}",
                "end what listens there, or choose another address with --listen",
                code="cannot_listen",
            ) from error
        log.info("worker_listening", host=host, port=runner.addresses[0][1])
        yield
    finally:
        await runner.cleanup()
