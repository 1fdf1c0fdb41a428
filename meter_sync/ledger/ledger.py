"""The books of one Stripe account and mode. Every public write of a book is one short transaction."""

from meter_sync.ledger.additions import Additions
from meter_sync.ledger.binding import Binding
from meter_sync.ledger.database import Database
from meter_sync.ledger.history import History
from meter_sync.ledger.holds import Holds
from meter_sync.ledger.listed import ListedPeriods
from meter_sync.ledger.memory import BilledUsages, Memories
from meter_sync.ledger.pruning import Pruning
from meter_sync.ledger.rejections import Rejections
from meter_sync.ledger.remainders import Remainders
from meter_sync.ledger.runs import Runs
from meter_sync.ledger.successions import Successions
from meter_sync.ledger.webhook_queue import WebhookQueue
from meter_sync.ledger.writes import Writes


class Ledger:
    """What was intended, what Stripe acknowledged, and which run did it: a book for each."""

    def __init__(self, database: Database) -> None:
        self.mode = database.scope["mode"]
        """The mode of Stripe that these books are about: `live` or `sandbox`."""
        self.additions = Additions(database)
        self.binding = Binding(database)
        self.billed_usage = BilledUsages(database)
        self.history = History(database)
        self.holds = Holds(database)
        self.listed = ListedPeriods(database)
        self.memory = Memories(database)
        self.pruning = Pruning(database)
        self.rejections = Rejections(database)
        self.remainders = Remainders(database)
        self.runs = Runs(database)
        self.successions = Successions(database)
        self.webhook_queue = WebhookQueue(database)
        self.writes = Writes(database)
