"""Requests to the embedded OpenMeter, held both ways against the document of a version of its API."""

import json
from dataclasses import dataclass
from typing import Any

from meter_sync.sandbox import Sandbox

from .documents import Document
from .messages import Request, send

EVENT = {
    "id": "1",
    "source": "test",
    "specversion": "1.0",
    "type": "tokens",
    "subject": "acme",
    "time": "2026-11-01T00:00:00Z",
    "data": {"value": 3, "model": "large"},
}


def post(path: str, content: Any, content_type: str = "application/json") -> Request:
    return Request("POST", path, text=json.dumps(content), headers={"content-type": content_type})


@dataclass(frozen=True)
class Held:
    """Sends requests to a sandbox, holding them and the answers against a document."""

    sandbox: Sandbox
    contract: Document

    def __call__(self, request: Request, status: int = 200) -> Any:
        """Return the answer of a documented request after checking both."""
        self.contract.check_request(request)
        return self.answered(request, status)

    def answered(self, request: Request, status: int, key: str | None = None) -> Any:
        """Return an answer after checking its status and its shape."""
        response = send("openmeter", self.sandbox, request, key=key)
        assert response.status_code == status, response.data
        self.contract.check_answer(request, response)
        return json.loads(response.data) if response.data else None
