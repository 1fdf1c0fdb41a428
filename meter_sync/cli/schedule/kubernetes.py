"""The files for Kubernetes: what is applied, and a Containerfile for its image."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from meter_sync import __version__
from meter_sync.cli.schedule.containerfile import containerfile
from meter_sync.cli.schedule.giving import Made, comment, in_folder
from meter_sync.cli.schedule.installation import FILES_OF_DATABASE, Installation
from meter_sync.cli.schedule.jobs import SHADOW, STATEMENT, VERIFY, Every, Job, another, status
from meter_sync.cli.schedule.kubernetes_pods import CONFIG, LEDGER, NAME, Cluster, Given, Manifest, labels, pod
from meter_sync.cli.schedule.kubernetes_workers import (
    ARGUMENTS,
    OF_CONTAINER,
    SAID,
    SAID_OF_UPGRADE,
    UPGRADE_ARGUMENTS,
    disruption_budget,
    upgrade,
    workers,
)
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import ConfigurationError
from meter_sync.net.addresses import is_loopback

MANIFESTS, CONTAINERFILE = "meter-sync.yaml", "Containerfile"

_PORT = 8431


def made(installation: Installation, cluster: Cluster) -> Made:
    """Return the manifests, which alone are printed, and what their image is made by.

    Raise ConfigurationError if the configuration file cannot be read any more.
    """
    shown = None if installation.config_is_secret else installation.config
    manifests = _manifests(Given(installation, cluster, _text_of(shown)))
    text = "---\n".join(_dumped(comment, one) for comment, one in manifests)
    return Made(
        files={MANIFESTS: text, CONTAINERFILE: containerfile(installation)},
        printed=text,
        notes=[
            *installation.notes_of_variables,
            *installation.left_to_hand,
            *_of_statements(installation),
            *_of_this_machine(installation),
        ],
        next_steps=lambda folder: _next_steps(installation, cluster, folder),
    )


def _of_statements(installation: Installation) -> list[str]:
    if installation.statements is None or _are_kept(installation):
        return []
    return [
        f"no job makes statements: {installation.statements} is on no volume of a Pod that stays; start meter-sync "
        "statement where finance has a folder."
    ]


def _of_this_machine(installation: Installation) -> list[str]:
    """Name the addresses that a Pod does not reach as this machine does, and the files that it has not."""
    addresses = [
        f"{name} is an address of this machine, which a Pod is not: {value}"
        for name, value in installation.variables.items()
        if "://" in value and is_loopback(urlsplit(value).hostname or "")
    ]
    files = [
        f"{name} is a file of this machine, which a Pod has not: {installation.variables[name]}"
        for name in FILES_OF_DATABASE
        if name in installation.variables
    ]
    return [*addresses, *files]


def _text_of(config: Path | None) -> str | None:
    """Return the text of the configuration file, if there is one: it was read before, and has no secret in it."""
    try:
        return config.read_text(encoding="utf-8") if config else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config} cannot be read, nothing was written") from error


def _next_steps(installation: Installation, cluster: Cluster, folder: Path) -> list[str]:
    return [
        f"podman build -f {in_folder(folder, CONTAINERFILE)} -t {cluster.image} .    # in a clone; then push it",
        f"{_kubectl(cluster)} {_made_secret(installation)}",
        *([f"{_kubectl(cluster)} {_made_config(installation)}"] if installation.config_is_secret else []),
        f"{_kubectl(cluster)} apply -f {in_folder(folder, MANIFESTS)}",
    ]


def _kubectl(cluster: Cluster) -> str:
    return f"kubectl -n {cluster.namespace}" if cluster.namespace else "kubectl"


def _made_secret(installation: Installation) -> str:
    of_files = (shlex.quote(f"--from-file={one.name}={one.file}") for one in installation.secrets)
    return " ".join([f"create secret generic {NAME}", *of_files])


def _made_config(installation: Installation) -> str:
    file = shlex.quote(f"--from-file={CONFIG.name}={installation.config}")
    return f"create secret generic {NAME}-config {file}"


def _manifests(given: Given) -> list[tuple[list[str], Manifest]]:
    """Return each object with the comment that stands before it."""
    found: list[tuple[list[str], Manifest]] = []
    if not given.installation.is_on_server:
        found.append(([], _claim(given.cluster)))
    if given.toml is not None:
        said = comment("The configuration file. Paths in it are those of the Pods.")
        found.append((said, _config(given.cluster, given.toml)))
    if given.installation.workers:
        found += _workers(given)
    found += [(_comment(job), _cron_job(job, given)) for job in _jobs(given.installation)]
    if given.installation.webhook_secrets:
        said = comment("Receives Stripe's events. What has TLS goes before it, such as an Ingress.")
        found += [(said, _deployment(given)), ([], _service(given.cluster))]
    (of_first, first), *others = found
    return [([*_head(given), *(["#", *of_first] if of_first else [])], first), *others]


def _head(given: Given) -> list[str]:
    """Return the comment that stands before everything."""
    return comment(
        "meter-sync in Kubernetes, as `meter-sync schedule kubernetes` prints it for the configuration in effect. The "
        "keys are not in it. Make them known once, from files that have nothing else in them:",
        f"    {_kubectl(given.cluster)} {_made_secret(given.installation)}",
        *(
            (
                "The configuration file has a secret in it (monitor.ping_url), so it is made known likewise:",
                f"    {_kubectl(given.cluster)} {_made_config(given.installation)}",
            )
            if given.installation.config_is_secret
            else ()
        ),
        "With --write DIR it comes with a Containerfile for the image.",
        "",
        _ON_SERVER if given.installation.is_on_server else _ON_VOLUME,
    )


_ON_VOLUME = (
    "The ledger is SQLite. It needs a block volume, not NFS or another file system over the network, which runs "
    "refuse, and all Pods on one node, where they share memory: their affinity sees to it. Two are at work at once, so "
    "that the volume cannot be ReadWriteOncePod."
)
_ON_SERVER = "The ledger is in a database, so that nothing is kept here, and Pods may be on any node."


def _jobs(installation: Installation) -> list[Job]:
    jobs = [one for one in installation.jobs if one is not STATEMENT or _are_kept(installation)]
    return [*jobs, status(Every.HOUR)]


def _are_kept(installation: Installation) -> bool:
    """Say whether a Pod's statements are there after its end: on the volume of the ledger."""
    folder = installation.statements
    return folder is not None and not installation.is_on_server and folder.is_relative_to(LEDGER.parent)


def _comment(job: Job) -> list[str]:
    if job.tells:
        said = (
            "Exit code 75 means try again later, and so is no failure of the Job: its Pod is replaced, with growing "
            "pauses, and so is one that its node has to give up. Any other code but 0 fails the Job: let that be told "
            "(kube_job_failed)."
        )
    else:
        said = (
            "The next one comes within a minute, so that none is tried again. What ends every run, the full run tells: "
            "let no failure of these Jobs be told. They are removed ten minutes after their end."
        )
    return comment(f"{job.description}, {job.every.value}.", said)


def _cron_job(job: Job, given: Given) -> Manifest:
    minute = given.installation.minute
    times = {Every.MINUTE: "* * * * *", Every.HOUR: f"{minute} * * * *", Every.DAY: f"{minute} 0 * * *"}
    times[Every.MONTH] = f"{another(minute, 43)} 7 {given.installation.day_of_statement} * *"
    of_others = {
        VERIFY.command: f"{another(minute, 23)} 5 * * *",
        SHADOW.command: f"{another(minute, 54 + job.turn)} * * * *",
        status(Every.HOUR).command: f"{another(minute, 37)} * * * *",
    }
    try_again = {"containerName": NAME, "operator": "In", "values": [int(ExitCode.TRY_AGAIN)]}
    tried_again = [
        {"action": "Ignore", "onExitCodes": try_again},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    taken_away = {"ttlSecondsAfterFinished": 600}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": _metadata(job.name, given.cluster),
        "spec": {
            "schedule": of_others.get(job.command) or times[job.every],
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 50 if job.every is Every.MINUTE else 1800,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "spec": {
                    "activeDeadlineSeconds": int(job.longest.total_seconds()),
                    "backoffLimit": 0,
                    **({"podFailurePolicy": {"rules": tried_again}} if job.tells else taken_away),
                    "template": {
                        "metadata": {"labels": labels(job.name)},
                        "spec": {
                            "restartPolicy": "Never",
                            **pod(given, job.arguments, given.installation.keys, {}),
                        },
                    },
                }
            },
        },
    }


def _workers(given: Given) -> list[tuple[list[str], Manifest]]:
    name = f"{NAME}-worker"
    metadata, named = _metadata(name, given.cluster), labels(name)
    working = pod(given, ARGUMENTS, given.installation.keys, OF_CONTAINER)
    of_upgrade = f"{NAME}-upgrade-{re.sub('[^a-z0-9-]', '-', __version__.lower())}"
    upgrading = pod(given, UPGRADE_ARGUMENTS, given.installation.keys, {})
    return [
        (comment(*SAID_OF_UPGRADE), upgrade(_metadata(of_upgrade, given.cluster), labels(of_upgrade), upgrading)),
        (comment(*SAID), workers(given.installation.workers, metadata, named, working)),
        ([], disruption_budget(metadata, named)),
    ]


def _deployment(given: Given) -> Manifest:
    name = f"{NAME}-webhook"
    port = {"ports": [{"name": "http", "containerPort": _PORT}]}
    probe = {"readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}}}
    here = ("--host", "0.0.0.0", "--port", str(_PORT))  # noqa: S104 (the Pod's own address)
    arguments = (*given.installation.webhook_arguments, *here)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(name, given.cluster),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels(name)},
            "template": {
                "metadata": {"labels": labels(name)},
                "spec": pod(given, arguments, given.installation.secrets, port | probe),
            },
        },
    }


def _service(cluster: Cluster) -> Manifest:
    name = f"{NAME}-webhook"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name, cluster),
        "spec": {"selector": labels(name), "ports": [{"name": "http", "port": _PORT, "targetPort": "http"}]},
    }


def _claim(cluster: Cluster) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(f"{NAME}-ledger", cluster),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}},
    }


def _config(cluster: Cluster, toml: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(NAME, cluster),
        "data": {CONFIG.name: toml},
    }


def _metadata(name: str, cluster: Cluster) -> Manifest:
    namespace = {"namespace": cluster.namespace} if cluster.namespace else {}
    return {"name": name, **namespace, "labels": labels(name)}


def _dumped(said: Sequence[str], manifest: Manifest) -> str:
    import yaml

    def text(dumper: Any, value: str) -> Any:
        """Write what has several lines as it stands."""
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda _self, _data: True})
    yaml.add_representer(str, text, Dumper=dumper)
    lines = "".join(f"{line}\n" for line in said)
    return lines + str(yaml.dump(manifest, Dumper=dumper, sort_keys=False, width=200, allow_unicode=True))
