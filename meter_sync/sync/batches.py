"""Meter events by the hundred: what sets hours, days or a total may be sent so, before each item has its turn.

An item's turn then finds that Stripe has taken its events, and records it as if each had been sent by itself. What was
not taken so, for whatever reason, is sent by itself then, under the same identifier and with the same value: that tells
of which event Stripe takes offence at, and what arrived already is not counted twice.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import structlog

from meter_sync.core.billing.item import Target
from meter_sync.core.planning.sends import SetTotal, SetWindows
from meter_sync.core.planning.stages import Intended, Write
from meter_sync.stripe_api.meter_event_stream import MOST_EVENTS, BatchNotTaken, MeterEventStream
from meter_sync.stripe_api.meter_events import Event
from meter_sync.sync.claims import ClaimLost
from meter_sync.sync.job import Job
from meter_sync.sync.workers import each
from meter_sync.sync.write import ItemWriter

log = structlog.get_logger()

STREAMED_ABOVE = 1000
"""With so many events at the most, sending them singly takes a second with a live key, and tells more."""
_IN_A_PACK = 10 * MOST_EVENTS


def takes(write: Write) -> bool:
    """Say whether the stream may take a write's events: all but those of which the answer to each is needed.

    An event that adds is safe to repeat only since Stripe says that it has its identifier already, which the stream
    does not. Nor does a first look go this way.
    """
    is_set = isinstance(write.sends, SetTotal | SetWindows) and write.total_before is None
    return is_set and write.method.way.target is Target.METER_EVENT


def stream_for(job: Job, writes: Iterable[Write]) -> MeterEventStream | None:
    """Return the stream, where a run has so many events for it that it is worth a session, or else None."""
    if job.stream is None or not job.stream.is_usable:
        return None
    events = sum(one.how_many for one in writes if takes(one))
    return job.stream if events > STREAMED_ABOVE else None


def packed(stream: MeterEventStream, claimed: Iterable[Intended]) -> Iterator[list[Intended]]:
    """Yield whole items with about a thousand events together, for as long as the stream is usable.

    So many fill requests, and are not claimed for long.
    """
    pack: list[Intended] = []
    events = 0
    for one in claimed:
        if pack and events + one.write.how_many > _IN_A_PACK:
            yield pack
            pack, events = [], 0
        pack.append(one)
        events += one.write.how_many
        if not stream.is_usable:
            break
    if pack:
        yield pack


async def send_batches(stream: MeterEventStream, writer: ItemWriter, pack: Sequence[Intended]) -> None:
    """Send the events of items by the hundred, all requests at once, and let the writer know what was taken.

    All of it was intended before. No two of the events are about the same hour, day or total: their order is no matter.
    """
    events = [(one.write.item.id, event) for one in pack for event in writer.events_of(one.write)]

    async def send(batch: Sequence[tuple[str, Event]]) -> None:
        if writer.stop.requested or not stream.is_usable:
            return
        names = [event.identifier for _, event in batch]
        try:
            are_mine = partial(writer.claims.check, *dict.fromkeys(item for item, _ in batch))
            request_id = await stream.send([event for _, event in batch], are_mine)
        except ClaimLost:
            # An attempt before may have arrived. Those that are still this run's go singly.
            writer.streamed.in_doubt.update(names)
            return
        except BatchNotTaken as refusal:
            if refusal.in_doubt:
                writer.streamed.in_doubt.update(names)
            log.info("batch_not_taken", events=len(batch), in_doubt=refusal.in_doubt, message=refusal.message)
            return
        writer.streamed.taken.update(dict.fromkeys(names, request_id))

    batches = [events[place : place + MOST_EVENTS] for place in range(0, len(events), MOST_EVENTS)]
    await each(batches, send, len(batches))
