"""Sessions of the meter event stream, whose tokens stand in for an API key there, and nowhere else.

Source: Stripe's API reference, API v2, Meter event streams: "Authentication tokens are only valid for 15 minutes".
"""

from dataclasses import dataclass

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.keys import is_live

VALID_SECONDS = 15 * 60


@dataclass(frozen=True)
class EventSession:
    """A session, for as long as its token is valid."""

    mark: str
    """What stands in each id of its account."""
    number: int
    key: str
    """The API key that opened it."""
    created: int
    """In Unix seconds, as the next."""
    expires_at: int

    @property
    def id(self) -> str:
        """Its id, in no shape of Stripe's: the API reference shows none."""
        return f"mes_{self.mark}{self.number:08d}"

    @property
    def token(self) -> str:
        """What is sent in place of a key."""
        return f"token_{self.mark}{self.number:08d}"


class EventSessions:
    """The sessions that were opened for one account, in whose ids this mark stands."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._opened: dict[str, EventSession] = {}

    def open(self, key: str, now: int) -> EventSession:
        """Open a session. Raise Refusal with a key of a sandbox: the stream is for live mode only.

        Assumed: the status and the words of that refusal.
        """
        if not is_live(key):
            raise Refusal("Meter event streams are only available in live mode.")
        session = EventSession(self._mark, len(self._opened) + 1, key, now, now + VALID_SECONDS)
        self._opened[session.token] = session
        return session

    def knows(self, token: str) -> bool:
        """Whether a token is of one of these sessions, which may have expired."""
        return token in self._opened

    def key_of(self, token: str, now: int) -> str:
        """Return the key that a token stands for. Raise Refusal for one that has expired, or is none."""
        session = self._opened.get(token)
        if session is None:
            raise Refusal("Invalid authentication token provided.", status=401)
        if now >= session.expires_at:
            raise Refusal(
                "The temporary session token has expired.",
                status=401,
                kind="temporary_session_expired",
                code="billing_meter_event_session_expired",
            )
        return session.key
