"""Errors of the embedded OpenMeter: RFC 7807 problems."""

import itertools
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from meter_sync.sandbox.http.traffic import Answer

_INSTANCES = itertools.count(1)


@dataclass
class Problem(Exception):
    """An error that is answered with this status and detail."""

    status: int
    detail: str


def problem(status: int, detail: str | None = None) -> Answer:
    """Return an error as OpenMeter shows it: a 5xx has no detail."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "instance": f"urn:request:sandbox/{next(_INSTANCES):06d}",
    }
    if status < 500:
        content["detail"] = detail or HTTPStatus(status).description or content["title"]
    return Answer(status=status, body=json.dumps(content), content_type="application/problem+json")
