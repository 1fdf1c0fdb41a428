"""The workers of a fleet in Kubernetes: what starts them, and what keeps one of them from being lost with another."""

from typing import Any

Manifest = dict[str, Any]

PORT = 8432
_AT_ONCE = 4
"""How many accounts a worker works on at once, each in a process of its own, with as many closing runs beside."""

SAID = (
    "The workers. They queue what is due, and carry it out; two of them on nodes of their own outlast the loss of one.",
    "While the database is away a worker is not ready, and waits: it is ended only where it is ill for a quarter of an "
    "hour. What it had under way then is due by the ledger.",
    "An older version refuses a ledger that a newer one has brought up to date, so all end before a new one begins.",
)
"""The comment that stands before them."""

SAID_OF_UPGRADE = (
    "Brings the ledger up to date, once for each version of meter-sync; workers that begin before it do the same, one "
    "after the other. It is removed a day after its end.",
)
UPGRADE_ARGUMENTS = ("ledger", "upgrade")
_TRIED_AGAIN = 6
_A_DAY_SECONDS = 24 * 60 * 60

ARGUMENTS = ("worker", "--concurrency", str(_AT_ONCE), "--listen", f"0.0.0.0:{PORT}")

_HEALTH = {"httpGet": {"path": "/healthz", "port": "http"}}

OF_CONTAINER: Manifest = {
    "ports": [{"name": "http", "containerPort": PORT}],
    "readinessProbe": {**_HEALTH, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
    # While the database is away it says that it is ill, and one that is started anew could do nothing else than wait.
    "livenessProbe": {**_HEALTH, "periodSeconds": 60, "timeoutSeconds": 10, "failureThreshold": 15},
    # For each account that it works on at once what a run has alone.
    "resources": {"requests": {"cpu": "400m", "memory": "1Gi"}, "limits": {"memory": f"{_AT_ONCE}Gi"}},
}
"""What its container has that others have not."""


def upgrade(metadata: Manifest, labels: Manifest, pod: Manifest) -> Manifest:
    """Return the Job that brings the ledger up to date, given what its Pod is."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": _TRIED_AGAIN,
            "ttlSecondsAfterFinished": _A_DAY_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", **pod}},
        },
    }


def workers(replicas: int, metadata: Manifest, labels: Manifest, pod: Manifest) -> Manifest:
    """Return what starts so many workers, given what a Pod of one is: on different nodes, as far as there are any."""
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {**pod, "topologySpreadConstraints": [spread]},
            },
        },
    }


def disruption_budget(metadata: Manifest, labels: Manifest) -> Manifest:
    """Return what lets nodes be emptied one after the other: one worker at a time is taken away."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
    }
