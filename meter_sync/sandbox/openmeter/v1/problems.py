"""Errors of the first version: RFC 7807 problems."""

import json
from http import HTTPStatus
from typing import Any

from meter_sync.sandbox.http.traffic import Answer
from meter_sync.sandbox.openmeter.problems import Problem, correlation


def show_problem(problem: Problem) -> Answer:
    """Return an error as OpenMeter shows it: a 5xx has no detail."""
    status = HTTPStatus(problem.status)
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": problem.status,
        "instance": f"urn:request:sandbox/{correlation()}",
    }
    if status < 500:
        content["detail"] = problem.detail or status.description or content["title"]
    return Answer(status=problem.status, body=json.dumps(content), content_type="application/problem+json")
