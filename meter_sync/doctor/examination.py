"""The examination: the sections in their order, and which of them can be looked at."""

from collections.abc import AsyncIterable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from meter_sync.config import WEBHOOK_SECRET, Configuration, Settings, needed
from meter_sync.doctor.books import examine_ledger
from meter_sync.doctor.clocks import examine_clocks
from meter_sync.doctor.configuration import examine_configuration
from meter_sync.doctor.destinations import examine_webhook
from meter_sync.doctor.finding import Finding, Status, skipped
from meter_sync.doctor.installation import installation_of
from meter_sync.doctor.mapping import examine_mapping
from meter_sync.doctor.metering import examine_openmeter
from meter_sync.doctor.monitors import examine_monitors
from meter_sync.doctor.runs import examine_runs
from meter_sync.doctor.schedule import examine_schedule
from meter_sync.doctor.stripe_key import examine_stripe
from meter_sync.errors import ConfigurationError
from meter_sync.net.stop import Stop
from meter_sync.sync.job import Clock

CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True)
class _Section:
    id: str
    """The id of its first check, which is named where it is skipped."""
    examine: Callable[..., AsyncIterable[Finding] | Iterable[Finding]]
    asks: bool = False
    """Whether it asks a server."""
    after: tuple[str, ...] = ()
    """The sections in which nothing may keep runs from working, or this one would say the same again."""


_SECTIONS = {
    "clock": _Section("clock", examine_clocks, asks=True),
    "ledger": _Section("ledger", examine_ledger),
    "stripe": _Section("stripe_key", examine_stripe, asks=True),
    "openmeter": _Section("openmeter", examine_openmeter, asks=True),
    "mapping": _Section("price_mapping", examine_mapping, asks=True, after=("clock", "ledger", "stripe", "openmeter")),
    "webhook": _Section("webhook_endpoint", examine_webhook, asks=True, after=("stripe",)),
    "runs": _Section("last_run", examine_runs),
    "schedule": _Section("schedule", examine_schedule),
    "monitor": _Section("monitor", examine_monitors),
}

SECTIONS = (CONFIGURATION, *_SECTIONS)
"""The names of the sections, in the order in which a newcomer meets their troubles."""

Examined = Mapping[str, list[Finding]]
"""The findings of each section."""


async def examine(
    configuration: Configuration,
    only: Collection[str],
    environment: Mapping[str, str],
    clock: Clock,
    stop: Stop,
    *,
    found_in: Path | None,
    offline: bool,
) -> Examined:
    """Examine an installation and return what was found, by section. Nothing is written.

    `only` names the sections to look at, or none for all; `found_in` is the folder in which the configuration file was
    found, where nobody has named it; `offline` leaves out what asks a server. Raise Interrupted.
    """
    found: dict[str, list[Finding]] = {CONFIGURATION: list(examine_configuration(configuration, found_in))}
    for name, section in _SECTIONS.items():
        if only and name not in only:
            continue
        stop.check()
        try:
            if offline and section.asks:
                raise _NotNow("it asks a server")
            unwell = [one for one in section.after if _is_in_the_way(found.get(one, ()))]
            if unwell:
                raise _NotNow(f"it waits until there is no such problem in: {', '.join(unwell)}")
            settings, account = _settings(configuration, section)
            tells_platform = configuration.is_of_platform and not configuration.has_its_own(WEBHOOK_SECRET)
            installation = installation_of(
                settings, account, environment, clock, stop, may_ask=not offline, tells_platform=tells_platform
            )
            found[name] = await _all(section.examine(installation))
        except _NotNow as reason:
            found[name] = [skipped(section.id, f"not looked at: {reason}")]
    return {name: findings for name, findings in found.items() if not only or name in only}


class _NotNow(Exception):
    """A section cannot be looked at; the message says why."""


def _settings(configuration: Configuration, section: _Section) -> tuple[Settings, Settings]:
    """Return the settings for a section, and the account's: one that asks no server needs no key."""
    keys = needed(for_webhook=False) if section.asks else ()
    try:
        return configuration.settings(keys), configuration.of_the_account(keys)
    except ConfigurationError as error:
        raise _NotNow("the configuration is to be right first") from error


async def _all(findings: AsyncIterable[Finding] | Iterable[Finding]) -> list[Finding]:
    return [one async for one in findings] if isinstance(findings, AsyncIterable) else list(findings)


def _is_in_the_way(findings: Iterable[Finding]) -> bool:
    return any(one.status is Status.PROBLEM and one.keeps_from_running for one in findings)
