"""The accounts of the embedded Stripe, and which of them a request is for, by its key and its headers.

Sources: Stripe's documentation, Making API calls for connected accounts (`Stripe-Account`), Stripe-Context header, and
Organization API keys. Assumed, since no page says: that paths of the second API take no `Stripe-Account`; that a
request without any version of its own is answered in that of the account it is for; and the words and statuses of
what is refused, except where Stripe's own are quoted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meter_sync.sandbox.http.traffic import Incoming
from meter_sync.sandbox.stripe.endpoints.meter_event_stream import STREAM_PATH
from meter_sync.sandbox.stripe.protocol.errors import Refusal, no_access
from meter_sync.sandbox.stripe.protocol.keys import invalid_key, sent_key
from meter_sync.sandbox.stripe.protocol.permissions import Permissions
from meter_sync.sandbox.stripe.state.objects import Metadata
from meter_sync.sandbox.stripe.world import StripeWorld


@dataclass(frozen=True, slots=True)
class Access:
    """What its key and its headers give a request."""

    key: str
    permissions: Permissions
    """What the key may do in the account that the request is for."""
    path: tuple[StripeWorld, ...]
    """The accounts from that of the key, or the first that the organization's key names, to the one it is for."""

    @property
    def world(self) -> StripeWorld:
        """The account that the request is for."""
        return self.path[-1]


@dataclass(frozen=True, slots=True)
class _Organization:
    worlds: tuple[StripeWorld, ...]
    permissions: Permissions


class Accounts:
    """All accounts of the embedded Stripe; the first one is the platform of those that are connected."""

    def __init__(self, platform: StripeWorld) -> None:
        self.platform = platform
        self._worlds = [platform]
        self._organizations: dict[str, _Organization] = {}

    def add(self, key: str | None, metadata: Metadata) -> StripeWorld:
        """Add an account with a secret key of its own, by default with one that no other has."""
        number = len(self._worlds)
        return self._added({key or f"sk_test_sandbox{number:02d}": None}, metadata, None)

    def connect(self, metadata: Metadata) -> StripeWorld:
        """Add an account that is connected to the platform; it has no key."""
        world = self._added({}, metadata, self.platform)
        self.platform.connected[world.account] = world
        return world

    def disconnect(self, world: StripeWorld) -> None:
        """End a connection: the platform has no access any more. Raise KeyError if there is none."""
        del self.platform.connected[world.account]

    def add_organization_key(self, key: str, worlds: Iterable[StripeWorld], permissions: Permissions) -> None:
        """Add a key of an organization that these accounts are in."""
        self._organizations[key] = _Organization(tuple(worlds), permissions)

    def _added(self, keys: dict[str, Permissions], metadata: Metadata, platform: StripeWorld | None) -> StripeWorld:
        world = StripeWorld(self.platform.clock, keys, number=len(self._worlds), metadata=metadata, platform=platform)
        self._worlds.append(world)
        return world

    def asked_for(self, request: Incoming) -> str | None:
        """Return the id of the account that a request is for, or would be if it had access; None if nobody knows."""
        try:
            key = sent_key(request.headers.get("authorization", ""))
        except Refusal:
            return None
        if request.path == STREAM_PATH:
            world = self._of_token(key)
        elif named := _named(request):
            return named[-1]
        else:
            world = self._of_key(key)
        return None if world is None else world.account

    def access(self, request: Incoming) -> Access:
        """Return what a request may do in which account. Raise Refusal if it may do nothing.

        On the meter event stream the token says both: it stands for the key that opened its session, in the account
        that the session was opened in.
        """
        key = sent_key(request.headers.get("authorization", ""))
        if request.path == STREAM_PATH:
            return self._streaming(key)
        _check_headers(request)
        organization = self._organizations.get(key)
        if organization is not None:
            return _in_organization(request, key, organization)
        home = self._of_key(key)
        if home is None:
            raise invalid_key(key)
        return _on_the_way(key, (home, *_related(home, _named(request))))

    def _streaming(self, token: str) -> Access:
        world = self._of_token(token) or self.platform
        key = world.event_sessions.key_of(token, world.clock.timestamp())
        home = self._of_key(key)
        if home is None:
            return Access(key, self._organizations[key].permissions, (world,))
        return _on_the_way(key, (home,) if home is world else (home, world))

    def _of_key(self, key: str) -> StripeWorld | None:
        return next((world for world in tuple(self._worlds) if key in world.keys), None)

    def _of_token(self, token: str) -> StripeWorld | None:
        return next((world for world in tuple(self._worlds) if world.event_sessions.knows(token)), None)


def _named(request: Incoming) -> list[str]:
    """Return the accounts that a request's headers name, the one that it is for last.

    `Stripe-Context` "supersedes the Stripe-Account header" and may name a platform and its account as `acct_1/acct_2`.
    """
    named = request.headers.get("stripe-context") or request.headers.get("stripe-account", "")
    return [part for part in named.split("/") if part]


def _check_headers(request: Incoming) -> None:
    """Refuse `Stripe-Account` where it is not known, or where it contradicts `Stripe-Context`."""
    account, context = (request.headers.get(name) for name in ("stripe-account", "stripe-context"))
    if account and request.path.startswith("/v2/"):
        raise Refusal("The Stripe-Account header is not supported in API v2. Use the Stripe-Context header instead.")
    if account and context and account != context:
        raise Refusal("The Stripe-Account and Stripe-Context headers name different accounts.")


def _in_organization(request: Incoming, key: str, organization: _Organization) -> Access:
    """Return the access of an organization's key, which must name the account and the version with each request.

    The first words are Stripe's own, as users have reported them.
    """
    if "stripe-context" not in request.headers:
        raise Refusal(
            "Please include the Stripe-Context header with your target account when using an Organization API key."
        )
    if "stripe-version" not in request.headers:
        raise Refusal("Please include the Stripe-Version header when using an Organization API key.")
    first, *others = _named(request) or [""]
    world = next((each for each in organization.worlds if each.account == first), None)
    if world is None:
        raise no_access(first)
    return Access(key, organization.permissions, (world, *_related(world, others)))


def _on_the_way(key: str, path: tuple[StripeWorld, ...]) -> Access:
    """Return the access of an account's key, which may do less in connected accounts than in its own."""
    home = path[0]
    if len(path) == 1:
        return Access(key, home.keys[key], path)
    permissions = home.connect_permissions.get(key, home.keys[key])
    if permissions is not None and not permissions:
        raise Refusal(
            "You passed a restricted API key with the Stripe-Account header, but the restricted API key does not have"
            " any Connect permissions.",
            status=403,
        )
    return Access(key, permissions, path)


def _related(home: StripeWorld, named: Sequence[str]) -> list[StripeWorld]:
    """Return the accounts on the way from one to the last of those named; none for that one itself."""
    path: list[StripeWorld] = []
    for name in named:
        at = path[-1] if path else home
        if name == at.account:
            continue
        if name not in at.connected:
            raise no_access(name)
        path.append(at.connected[name])
    return path
