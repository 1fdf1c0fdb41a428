"""Idempotency keys (API reference, Idempotent requests)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from meter_sync.sandbox.http.traffic import Answer
from meter_sync.sandbox.stripe.protocol.errors import Refusal

KEPT_SECONDS = 24 * 3600
LONGEST_KEY = 255


@dataclass(frozen=True)
class _Saved:
    signature: str
    answer: Answer
    at: int


class SavedAnswers:
    """The answers saved under idempotency keys, each for 24 hours of the sandbox's clock.

    What is saved is the answer of a request that began to be carried out, a refusal or a 500
    included. Requests that fail before (401, 403, 429, malformed parameters) are not saved: "We
    only save results after the execution of an endpoint begins".
    """

    def __init__(self) -> None:
        self._saved: dict[tuple[str, str], _Saved] = {}

    def replay_or_carry_out(
        self, api_key: str, key: str, signature: str, now: int, run: Callable[[], Answer]
    ) -> Answer:
        """Replay the answer saved under an idempotency key, or else carry the request out and save its answer.

        Raise Refusal for a key that was used for a request with another signature.
        """
        if not 0 < len(key) <= LONGEST_KEY:
            raise Refusal(
                f"Idempotency keys must be between 1 and {LONGEST_KEY} characters long.", kind="idempotency_error"
            )
        saved = self._saved.get((api_key, key))
        if saved is None or now - saved.at >= KEPT_SECONDS:
            answer = run()
            self._saved[api_key, key] = _Saved(signature, answer, now)
            return answer
        if saved.signature != signature:
            raise Refusal(
                "Keys for idempotent requests can only be used with the same parameters they were"
                f" first used with. Try using a key other than '{key}' if you meant to execute a"
                " different request.",
                kind="idempotency_error",
            )
        return replace(saved.answer, headers={**saved.answer.headers, "Idempotent-Replayed": "true"})


def is_saved(status: int) -> bool:
    """Whether Stripe saves an error of this status.

    It replays "the same result, including 500 errors" (API reference, Idempotent requests). The statuses 502, 503
    and 504 come from proxies before Stripe.
    """
    return status == 500
