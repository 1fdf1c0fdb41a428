"""Whose history is asked for: of the only account, or of all that the configuration or the ledger has, or of some."""

from collections.abc import Sequence

from meter_sync.cli.globals import Globals, chosen
from meter_sync.cli.history.actions import Whose
from meter_sync.config import Configuration, needed
from meter_sync.ledger import Scope, accounts_with_books


def whose(options: Globals, names: Sequence[str]) -> Whose:
    """Return whose books are asked for, by the names of their accounts.

    No key need be there, or right: where there is one it is read, for its mode. Among several accounts are those whose
    row is gone, and connected ones, as far as the ledger has their books. Raise ConfigurationError that names every
    problem at once, ArgumentsError for a name that neither has, or what the ledger raises.
    """
    configuration = options.read_configuration(needed(for_webhook=False))
    if not configuration.is_of_several:
        (only,) = chosen(configuration, names)
        settings = options.in_effect(only, ())
        return Whose(settings.ledger, [settings.scope], by_account=False)
    place = options.in_effect(configuration, ()).ledger
    known = {one.account: _scope(one) for one in configuration.accounts}
    known |= {one.account: one for one in accounts_with_books(place) if one.account not in known}
    for name in names:
        if name not in known:
            known |= {one.account: _scope(one) for one in chosen(configuration, [name])}
    books = [one for name, one in known.items() if name in names or not names]
    if not books:  # connected accounts, before the first run: that the ledger knows nothing has to be said
        return Whose(place, [Scope("", "")], by_account=False)
    return Whose(place, books, by_account=len({*names}) != 1)


def _scope(account: Configuration) -> Scope:
    """Return whose books an account has; in which mode these are, they say themselves, once a run has begun."""
    settings = account.in_effect
    return settings.scope if settings else Scope(account.account, "live")
