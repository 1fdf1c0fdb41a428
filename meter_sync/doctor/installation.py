"""What is examined, as the sections see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from meter_sync.config import Settings
from meter_sync.net.stop import Stop
from meter_sync.sync.job import Clock

SERVER_SECONDS = 10.0
"""How long a server is asked at most before it counts as away: a person waits."""


@dataclass(frozen=True, slots=True)
class Installation:
    """An installation whose configuration is right."""

    settings: Settings
    """Those in effect, with which a server that is away is given up sooner than by a run."""
    account: Settings
    """Those of the account itself, which in shadow mode are others."""
    environment: Mapping[str, str]
    clock: Clock
    stop: Stop
    may_ask: bool = True
    """Whether anything may be asked over the network."""
    tells_platform: bool = False
    """Whether Stripe tells a platform what happens in the account, and not the account itself."""

    @property
    def interval(self) -> timedelta:
        """How long one run is after the other."""
        return self.settings.schedule.interval


def installation_of(
    settings: Settings,
    account: Settings,
    environment: Mapping[str, str],
    clock: Clock,
    stop: Stop,
    *,
    may_ask: bool,
    tells_platform: bool = False,
) -> Installation:
    """Return what is to be examined."""
    sooner = {"retry_seconds": min(settings.retry_seconds, SERVER_SECONDS)}
    settings, account = settings.model_copy(update=sooner), account.model_copy(update=sooner)
    return Installation(settings, account, environment, clock, stop, may_ask, tells_platform)
