"""The books of one Stripe account and mode. Every public write of a book is one short transaction."""

from dataclasses import dataclass

from meter_sync.ledger.additions import Additions
from meter_sync.ledger.binding import Binding
from meter_sync.ledger.claims import Claims
from meter_sync.ledger.database import Database
from meter_sync.ledger.history import History
from meter_sync.ledger.holds import Holds
from meter_sync.ledger.listed import Listed
from meter_sync.ledger.memory import Memories
from meter_sync.ledger.pruning import Pruning
from meter_sync.ledger.rejections import Rejections
from meter_sync.ledger.remainders import Remainders
from meter_sync.ledger.runs import Runs
from meter_sync.ledger.successions import Successions
from meter_sync.ledger.webhook_queue import WebhookQueue
from meter_sync.ledger.writes import Writes


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was intended, what Stripe acknowledged, and which run did it: a book for each."""

    mode: str
    """The mode of Stripe that these books are about: `live` or `sandbox`."""
    additions: Additions
    binding: Binding
    claims: Claims
    history: History
    holds: Holds
    listed: Listed
    memory: Memories
    pruning: Pruning
    rejections: Rejections
    remainders: Remainders
    runs: Runs
    successions: Successions
    webhook_queue: WebhookQueue
    writes: Writes


def ledger_in(database: Database) -> Ledger:
    """Return the books that a database holds."""
    return Ledger(
        mode=database.scope["mode"],
        additions=Additions(database),
        binding=Binding(database),
        claims=Claims(database),
        history=History(database),
        holds=Holds(database),
        listed=Listed(database),
        memory=Memories(database),
        pruning=Pruning(database),
        rejections=Rejections(database),
        remainders=Remainders(database),
        runs=Runs(database),
        successions=Successions(database),
        webhook_queue=WebhookQueue(database),
        writes=Writes(database),
    )
