"""No redirect is followed: the key would go along to wherever a server, or somebody in its place, points."""

from pathlib import Path

import pytest

from meter_sync.core.outcomes import ExitCode, Reason
from meter_sync.sandbox import Fault
from meter_sync.sandbox.http.faults import Server
from tests.security.tls import listening
from tests.support.permissions import EXACTLY
from tests.support.runs import Life, executed
from tests.support.ways import one_fast

REDIRECT = "answered with a redirect, which is not followed with a key"
STATUSES = (301, 302, 303, 307, 308)
ROUTES: tuple[tuple[Server, str, str], ...] = (
    ("stripe", "GET", "/v1/prices$"),
    ("stripe", "GET", "/v1/subscriptions$"),
    ("stripe", "GET", "/v2/core/events$"),
    ("stripe", "GET", "/usage_record_summaries$"),
    ("stripe", "POST", "/usage_records$"),
    ("stripe", "POST", "/v1/billing/meter_events$"),
    ("openmeter", "GET", "/meters$"),
)


@pytest.mark.parametrize("status", one_fast(STATUSES, 307))
@pytest.mark.parametrize(("server", "method", "path"), ROUTES)
def test_a_redirect_ends_the_run_and_nobody_is_asked_there(
    tmp_path: Path, server: Server, method: str, path: str, status: int
) -> None:
    life = Life(tmp_path, EXACTLY)
    with listening() as elsewhere, life.world.sandbox.in_background():
        target = {"Location": f"http://127.0.0.1:{elsewhere.port}/"}
        life.world.sandbox.faults.add(
            Fault(server=server, method=method, path=path, times=None, status=status, headers=target, saved=False)
        )
        report = executed(life.world)

    assert [request for request in life.world.sandbox.requests if request.status == status]
    assert elsewhere.connections == 0
    assert report.exit_code is ExitCode.CONFIGURATION
    assert report.error
    assert report.error.code == f"{server}_address"
    assert REDIRECT in report.error.message


@pytest.mark.parametrize("status", one_fast(STATUSES, 302))
def test_a_redirected_query_is_no_answer_and_nobody_is_asked_there(tmp_path: Path, status: int) -> None:
    life = Life(tmp_path, EXACTLY)
    with listening() as elsewhere, life.world.sandbox.in_background():
        target = {"Location": f"http://127.0.0.1:{elsewhere.port}/"}
        life.world.sandbox.faults.add(
            Fault(server="openmeter", path="/query$", times=None, status=status, headers=target)
        )
        report = executed(life.world)

    assert elsewhere.connections == 0
    assert {(one.reason, REDIRECT in (one.message or "")) for one in report.results} == {(Reason.OPENMETER_ERROR, True)}
    assert report.exit_code is ExitCode.FAILED
    assert not life.world.writes
