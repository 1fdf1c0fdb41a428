"""Errors of the third version: problems with a correlation id, and with what is invalid in a request.

Source: OpenMeter's OpenAPI document of v3 (BaseError, BadRequestError, InvalidParameters).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from meter_sync.sandbox.http.traffic import Answer
from meter_sync.sandbox.openmeter.problems import Problem, correlation

_NAMES = {"group_by": "group_by_dimensions", "filter_group_by": "filters.dimensions"}
"""What rules of both versions speak of, as this one calls it."""


@dataclass
class Invalid(Problem):
    """What makes a request a bad one: where it stands, and which rule of the document it breaks."""

    rule: str = "invalid"
    source: Literal["body", "query"] = "body"
    bounds: Mapping[str, Any] = field(default_factory=dict)
    """What the rule's name leaves open: `maximum` or `choices`."""


def invalid(name: str, reason: str, rule: str = "invalid", **bounds: Any) -> Invalid:
    """Return what to raise for a field of the body."""
    return Invalid(400, reason, name, rule, "body", bounds)


def invalid_parameter(name: str, reason: str, rule: str = "invalid", **bounds: Any) -> Invalid:
    """Return what to raise for a parameter in the address."""
    return Invalid(400, reason, name, rule, "query", bounds)


def show_problem(problem: Problem) -> Answer:
    """Return an error as OpenMeter shows it: always with a detail.

    That of a 400 says nothing: what is wrong stands in its invalid parameters alone.
    """
    title = HTTPStatus(problem.status).phrase
    content: dict[str, Any] = {
        "type": f"https://httpstatuses.com/{problem.status}",
        "status": problem.status,
        "title": title,
        "instance": f"kong:trace:{correlation()}",
        "detail": problem.detail or title,
    }
    if problem.status == 400:
        content["detail"] = title
        content["invalid_parameters"] = [_invalid_parameter(problem)]
    return Answer(status=problem.status, body=json.dumps(content), content_type="application/problem+json")


def _invalid_parameter(problem: Problem) -> dict[str, Any]:
    told = problem if isinstance(problem, Invalid) else Invalid(400, problem.detail, problem.field)
    return {
        "field": _NAMES.get(told.field, told.field),
        "rule": told.rule,
        "reason": told.detail or "is invalid",
        "source": told.source,
        **told.bounds,
    }
