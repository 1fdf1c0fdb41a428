"""Recalling from the ledger what the plan needs to know of the listed items."""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from meter_sync.core.metering.mapping import MappingRules
from meter_sync.core.planning.known import Memory, Remembered
from meter_sync.core.planning.stages import Hold, Line, Skip
from meter_sync.core.planning.windows import read_from
from meter_sync.ledger.parts import Wanted
from meter_sync.stripe_api.listing import Listing
from meter_sync.sync.adapters import Adapters
from meter_sync.sync.order import Order

log = structlog.get_logger()


def remember(order: Order, adapters: Adapters, listing: Listing) -> Memory:
    """Recall what the ledger knows of the listed items, and note what the listing saw."""
    ledger = adapters.ledger
    if adapters.writer is not None:
        ledger.listed.record_listing(
            listing.items, listing.asked_prices, listing.empty_archived_prices, order.policy.now
        )
    memory = ledger.memory.of(listing.items)
    if order.selection.is_everything:
        _warn_of_unused_rows(order.rules, listing)
    if order.selection.narrows_the_listing:
        memory = replace(memory, other_claims=ledger.claims.open_after(order.run.as_of))
    elif adapters.writer is not None:
        # Of an item that is not listed any more, but not known to have ended, another one must not take the place yet.
        listed = {item.id for item in listing.items}
        open_ones = ledger.claims.open_on_meters(order.run.as_of)
        memory = replace(memory, other_claims=tuple(one for one in open_ones if one.item not in listed))
    return memory


def _warn_of_unused_rows(rules: MappingRules, listing: Listing) -> None:
    """Name the rows that are for no listed item: a misspelt one leaves its items to the metadata, or unbilled."""
    for number, row in enumerate(rules.rows, start=1):
        if not any(row.is_for(item) for item in listing.items):
            selector = row.price or row.lookup_key or row.product or row.stripe_meter
            log.warning("meters_row_unused", row=number, selector=selector)


def recall_parts(
    order: Order, adapters: Adapters, prepared: Sequence[Line | Hold | Skip], memory: Memory
) -> tuple[list[Line | Hold | Skip], Memory]:
    """Decide how much of each period's hours or days to read, and recall as much of them from the ledger."""
    known = memory.remembered
    lines = [
        replace(one, read_from=read_from(one, known.get(one.item.id), order.policy))
        if isinstance(one, Line) and one.way.is_in_parts
        else one
        for one in prepared
    ]
    wanted = [
        Wanted(line.item.id, line.item.period.start, line.read_from)
        for line in lines
        if isinstance(line, Line) and _has_parts(line, known.get(line.item.id))
    ]
    return lines, adapters.ledger.memory.with_parts(memory, wanted)


def _has_parts(line: Line, remembered: Remembered | None) -> bool:
    return remembered is not None and (line.way.is_in_parts or remembered.method.way.is_in_parts)
