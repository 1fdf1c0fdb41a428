"""The Pods of a schedule in Kubernetes: what runs in them, what they see, and what they may write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meter_sync import __version__
from meter_sync.cli.schedule.containerfile import PROGRAM, STATE_FOLDER, USER
from meter_sync.cli.schedule.installation import Installation, SecretFile
from meter_sync.cli.schedule.jobs import ENDS_WITHIN_SECONDS

IMAGE = f"meter-sync:{__version__}"
"""The one that the Containerfile says how to make."""

NAME = "meter-sync"
LEDGER = STATE_FOLDER / "ledger.sqlite3"
_SECRETS = Path("/run/secrets/meter-sync")
CONFIG = Path("/etc/meter-sync/meter-sync.toml")
_OWNER_ONLY = 0o400

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the objects go, and which image they start."""

    image: str = IMAGE
    namespace: str | None = None
    """None for that of whoever applies them."""


@dataclass(frozen=True, slots=True)
class Given:
    """What all objects are made of."""

    installation: Installation
    cluster: Cluster
    toml: str | None
    """The text of the configuration file, if there is one."""


def pod(given: Given, arguments: Sequence[str], secrets: Sequence[SecretFile], of_container: Manifest) -> Manifest:
    """Return what a Pod is: without root, an account, variables of others, or anything to write but the ledger."""
    here = {"labelSelector": {"matchLabels": labels()}, "topologyKey": "kubernetes.io/hostname"}
    on_one_node = {"requiredDuringSchedulingIgnoredDuringExecution": [here]}
    mounted = _mounted(given, secrets)
    container = {
        "name": NAME,
        "image": given.cluster.image,
        "command": [PROGRAM],
        "args": ["--log-level", "info", *arguments],
        "env": [{"name": name, "value": value} for name, value in _variables(given, secrets).items()],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        **of_container,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": name, **mount} for name, (mount, _) in mounted.items()],
    }
    return {
        "automountServiceAccountToken": False,
        # A Service named meter-sync-webhook would be a variable METER_SYNC_WEBHOOK_PORT, which means something else.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": ENDS_WITHIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({} if given.installation.is_on_server else {"affinity": {"podAffinity": on_one_node}}),
        "containers": [container],
        "volumes": [{"name": name, **volume} for name, (_, volume) in mounted.items()],
    }


def _mounted(given: Given, secrets: Sequence[SecretFile]) -> dict[str, tuple[Manifest, Manifest]]:
    """Return by its name where each volume is mounted, and what it is.

    The files of a Secret are root's; where a Pod has an fsGroup they are that group's too, and it may read them
    whatever their mode says.
    """
    keys = [{"key": one.name, "path": one.name} for one in secrets]
    there = {"mountPath": str(CONFIG.parent), "readOnly": True}
    found: dict[str, tuple[Manifest, Manifest]] = {}
    if not given.installation.is_on_server:
        claimed = {"persistentVolumeClaim": {"claimName": f"{NAME}-ledger"}}
        found["ledger"] = ({"mountPath": str(LEDGER.parent)}, claimed)
    found["secrets"] = (
        {"mountPath": str(_SECRETS), "readOnly": True},
        {"secret": {"secretName": NAME, "defaultMode": _OWNER_ONLY, "items": keys}},
    )
    if given.toml is not None:
        found["config"] = (there, {"configMap": {"name": NAME}})
    elif given.installation.config_is_secret:
        found["config"] = (there, {"secret": {"secretName": f"{NAME}-config", "defaultMode": _OWNER_ONLY}})
    return found | {"tmp": ({"mountPath": "/tmp"}, {"emptyDir": {}})}  # noqa: S108 (a volume of the Pod's own)


def _variables(given: Given, secrets: Sequence[SecretFile]) -> dict[str, str]:
    return {
        **({} if given.installation.config is None else {"METER_SYNC_CONFIG": str(CONFIG)}),
        **{name: value for name, value in given.installation.variables.items() if not name.startswith("SSL_CERT_")},
        **({} if given.installation.is_on_server else {"METER_SYNC_LEDGER": str(LEDGER)}),
        **_variables_of(secrets, given.installation.accounts),
    }


def _variables_of(secrets: Sequence[SecretFile], accounts: Sequence[str] | None) -> dict[str, str]:
    """Return what says where the secrets are.

    Where there are several accounts that is their folder alone: a variable, which names what all have in common, would
    come before the key that is handed over for one of them.
    """
    files = {one.variable: str(_SECRETS / one.name) for one in secrets if one.variable} if accounts is None else {}
    return files if len(files) == len(secrets) else {**files, "CREDENTIALS_DIRECTORY": str(_SECRETS)}


def labels(name: str | None = None) -> dict[str, str]:
    """Return the labels of one object, or those that all have."""
    component = (name or "").removeprefix(f"{NAME}-").removeprefix(NAME) or "run"
    of_one = {"app.kubernetes.io/component": component} if name else {}
    return {"app.kubernetes.io/name": NAME, **of_one}
