"""The embedded OpenMeter's API: which version answers a request, and whether it may be asked."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from meter_sync.sandbox.http.traffic import Answer, Incoming
from meter_sync.sandbox.openmeter.problems import Problem
from meter_sync.sandbox.openmeter.v1 import api as v1
from meter_sync.sandbox.openmeter.v1.problems import show_problem as show_v1_problem
from meter_sync.sandbox.openmeter.v3 import api as v3
from meter_sync.sandbox.openmeter.v3.problems import show_problem as show_v3_problem
from meter_sync.sandbox.openmeter.world import OpenMeterWorld

OpenMeterVersion = Literal["v1", "v3"]
OPENMETER_VERSIONS: frozenset[OpenMeterVersion] = frozenset(get_args(OpenMeterVersion))


@dataclass(frozen=True)
class _Version:
    """A version of the API at one place."""

    prefix: str
    answer: Callable[[OpenMeterWorld, Incoming], Answer]
    show_problem: Callable[[Problem], Answer]


_V1 = _Version(v1.PREFIX, v1.answer, show_v1_problem)
_V3 = _Version(v3.PREFIX, partial(v3.answer, prefix=v3.PREFIX), show_v3_problem)
_KONNECT = _Version(v3.KONNECT_PREFIX, partial(v3.answer, prefix=v3.KONNECT_PREFIX), show_v3_problem)


class OpenMeterApi:
    """Answers requests to the embedded OpenMeter.

    A server of one's own has v1 and v3; Konnect has v3 alone, and then has it without `/api` too.
    """

    def __init__(self, world: OpenMeterWorld, versions: Collection[OpenMeterVersion] = OPENMETER_VERSIONS) -> None:
        if not versions or set(versions) - OPENMETER_VERSIONS:
            raise ValueError(f"not versions of OpenMeter's API: {sorted(versions)}")
        self._world = world
        self._served = [*([_V1] if "v1" in versions else [_KONNECT]), *([_V3] if "v3" in versions else [])]

    def __call__(self, request: Incoming) -> Answer:
        """Answer one request."""
        version = self._version(request)
        try:
            with self._world.lock:
                self._authenticate(request)
                if not request.path.startswith(version.prefix):
                    raise Problem(404, f"no matching operation was found: {request.path}")
                return version.answer(self._world, request)
        except Problem as error:
            return version.show_problem(error)

    def failure(self, request: Incoming, status: int) -> Answer:
        """Return an error as the version that is asked shows it."""
        return self._version(request).show_problem(Problem(status, ""))

    def _version(self, request: Incoming) -> _Version:
        """Return the version that a request is for; for a path of none, the first one, which then refuses it."""
        return next((each for each in self._served if request.path.startswith(each.prefix)), self._served[0])

    def _authenticate(self, request: Incoming) -> None:
        token = self._world.token
        if token is not None and request.headers.get("authorization") != f"Bearer {token}":
            raise Problem(401, "missing or invalid bearer token")
