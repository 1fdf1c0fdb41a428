"""How many examples are drawn: few and always the same ones, or FUZZ_TIMES as many, new ones each time.

`FUZZ_TIMES=100 pytest -m '' tests/fuzz` looks for what nobody has thought of yet.
"""

import os

from hypothesis import HealthCheck, Phase, settings

_TIMES = int(os.environ.get("FUZZ_TIMES", "1"))


def examples(few: int) -> settings:
    """Return the settings for so many examples."""
    return settings(
        max_examples=few * _TIMES,
        derandomize=_TIMES == 1,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if _TIMES > 1 else [])],
        suppress_health_check=list(HealthCheck),
    )
