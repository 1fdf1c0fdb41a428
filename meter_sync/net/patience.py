"""When the rest of a run is not tried any more, because nobody answers."""


class Patience:
    """Is lost after so many requests in a row without an answer; each answer restores it."""

    def __init__(self, unanswered_in_a_row: int) -> None:
        self._limit = unanswered_in_a_row
        self._unanswered = 0

    @property
    def is_lost(self) -> bool:
        """Whether the rest is not to be tried in this run."""
        return self._unanswered >= self._limit

    def unanswered(self) -> None:
        """Count a request that had no answer."""
        self._unanswered += 1

    def answered(self) -> None:
        """Begin anew after an answer."""
        self._unanswered = 0
