"""The section of OpenMeter: whether it answers, how soon, and to how many questions at once."""

import asyncio
import time
from collections.abc import AsyncIterator

from meter_sync.doctor.finding import Finding, of_error, ok, warning
from meter_sync.doctor.installation import Installation
from meter_sync.errors import MeterSyncError
from meter_sync.net.tasks import first_error_only
from meter_sync.sync.job import open_openmeter


async def examine_openmeter(installation: Installation) -> AsyncIterator[Finding]:
    """Yield which version answers, with how many meters and how soon, and whether it stands what runs ask at once."""
    settings = installation.settings.openmeter
    async with open_openmeter(installation.settings, installation.stop) as openmeter:
        began = time.monotonic()
        try:
            meters = await openmeter.meters()
        except MeterSyncError as error:
            yield of_error("openmeter", error)
            return
        took, sent = time.monotonic() - began, openmeter.requests_sent
        count = len({meter.slug for meter in meters.known.values()})
        yield ok(
            "openmeter", f"{settings.url} answers as API {openmeter.version} in {_milliseconds(took)} (meters: {count})"
        )
        began = time.monotonic()
        try:
            async with first_error_only(), asyncio.TaskGroup() as group:
                for _ in range(settings.concurrency):
                    group.create_task(openmeter.meters())
        except MeterSyncError as error:
            yield of_error("openmeter", error, "concurrency")
            return
        took = time.monotonic() - began
        again = openmeter.requests_sent - sent * (settings.concurrency + 1)
        yield _concurrency(settings.concurrency, took, again)


def _concurrency(at_once: int, seconds: float, again: int) -> Finding:
    said = f"{at_once} questions at once were answered in {_milliseconds(seconds)}"
    if again > 0:
        remedy = "lower openmeter.concurrency, or raise what the server allows"
        return warning("openmeter", f"{said}, after {again} of them had to be asked again", remedy, "concurrency")
    return ok("openmeter", said, "concurrency")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
