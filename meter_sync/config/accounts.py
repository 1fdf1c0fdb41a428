"""The rows of `[[accounts]]`: what an account has of its own, in the place of what all have in common."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from meter_sync.core.text import did_you_mean

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_SECTIONS = ("stripe", "openmeter", "mapping", "brakes", "shadow")
_SELECTORS = ("price", "lookup_key", "product", "stripe_meter")
_SERVERS = {"stripe": "api_base", "openmeter": "url"}
"""What says where the keys of a section are sent."""

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AccountRow:
    """A row: the account's name, and the settings that it has of its own, by section."""

    name: str
    own: Values

    @property
    def problems(self) -> list[str]:
        """What is wrong with its keys; the settings themselves are checked with all others."""
        known = ("name", *_SECTIONS, "meters")
        unknown = (key for key in self.own if key not in known)
        return [f"{key}: is not a setting of an account{did_you_mean(key, known)}" for key in unknown]

    def has(self, path: str) -> bool:
        """Say whether a setting, or a file for it, is the row's own: then what is common says nothing of it.

        A row that names another server has that server's keys, or none: a key is sent nowhere that it is not for.
        """
        section, _, name = path.rpartition(".")
        own = self.own.get(section)
        if not isinstance(own, Mapping):
            return False
        name = name.removesuffix("_file")
        is_key = name in ("api_key", "setup_api_key")
        return name in own or f"{name}_file" in own or (is_key and _SERVERS.get(section) in own)

    def over(self, common: Values) -> dict[str, Any]:
        """Return the settings of the file as they are for this account."""
        merged = dict(common)
        for section in _SECTIONS:
            own, others = self.own.get(section), common.get(section)
            if isinstance(own, Mapping) and isinstance(others, Mapping):
                kept = {name: value for name, value in others.items() if not self.has(f"{section}.{name}")}
                merged[section] = {**kept, **own}
            elif own is not None:
                merged[section] = own
        if "meters" in self.own:
            merged["meters"] = [*_before(self.own["meters"], common.get("meters", []))]
        return merged


def account_rows(of_file: Values) -> tuple[list[AccountRow], list[str]]:
    """Return the rows of a configuration file, and what is wrong with their names."""
    rows = of_file.get("accounts", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return [], ["accounts: must be rows, each under [[accounts]]"]
    found = [AccountRow(str(row.get("name", "")), row) for row in rows]
    names = [one.name for one in found]
    problems = [
        f"accounts: a name is missing, or is not of a-z, 0-9 and -, up to 40 characters: {name!r}"
        for name in names
        if not _NAME.fullmatch(name)
    ]
    problems += [f"accounts: two rows have the name {name}" for name in sorted({*names}) if names.count(name) > 1]
    connect = of_file.get("connect")
    is_of_several = found or (isinstance(connect, Mapping) and connect.get("all"))
    if is_of_several and "shadow" in of_file:
        problems.append("[shadow] is for one account: put it into that account's row, as [accounts.shadow]")
    return found, problems


def named_twice(accounts: Iterable[tuple[str, SecretStr, str | None]]) -> Iterator[str]:
    """Given the name, the key and the connected account of each row, yield what is wrong where two are of one account.

    In shadow mode these are the shadow's, to which alone is written. Keys that differ may be of one account, too: that
    the ledger finds out (`account_twice`).
    """
    seen = dict[str, str]()
    for name, secret, connected in accounts:
        whose = connected or secret.get_secret_value()
        what = f"Stripe account {connected}" if connected else "one Stripe key"
        if whose in seen:
            yield f"accounts: {seen[whose]} and {name} are of {what}: two books of one account would bill twice"
        elif whose:
            seen[whose] = name


def _before(own: Any, common: Any) -> Iterator[Any]:
    """Yield an account's own rows for meters, and those of the common ones that are about others."""
    if not isinstance(own, list) or not isinstance(common, list):
        yield own  # which is no list of rows: the check of all settings says so
        return
    yield from own
    taken = [_selector(row) for row in own]
    yield from (row for row in common if _selector(row) not in taken)


def _selector(row: Any) -> list[tuple[str, Any]]:
    return [(name, row[name]) for name in _SELECTORS if name in row] if isinstance(row, Mapping) else []
