"""The manifests: Kubernetes' own schemas take them, and a Pod can do nothing but its work."""

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from meter_sync.cli.schedule.installation import Installation, SecretFile
from meter_sync.cli.schedule.kubernetes import CONTAINERFILE, MANIFESTS, made
from meter_sync.cli.schedule.kubernetes_pods import Cluster
from meter_sync.cli.worker import worker
from meter_sync.core.schedule import Schedule
from meter_sync.errors import ConfigurationError
from meter_sync.fleet.health import HEALTH_PATH
from tests.schedule.installations import FLEET, INSTALLATIONS, KEYS, ODD, ON_SERVER, PLAIN, WEBHOOK_SECRET, changed

TOML = """\
[stripe]
api_key_file = "/etc/meter-sync/stripe_api_key"

[[meters]]
product = "prod_1"  # tab:\t
openmeter = "a"
"""
OLDEST = "1.31"
"""The first release that promises all of it: podFailurePolicy is stable there."""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    file = tmp_path / "meter-sync.toml"
    file.write_text(TOML)
    return file


def objects(of: Installation, cluster: Cluster | None = None) -> list[dict[str, Any]]:
    yaml = import_module("yaml")  # it has no types
    return list(yaml.safe_load_all(made(of, cluster or Cluster()).printed))


def of_kind(found: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == kind}


def pods(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each Pod is, by the name of its object."""
    of_jobs = {name: one["jobTemplate"]["spec"]["template"]["spec"] for name, one in of_kind(found, "CronJob").items()}
    return of_jobs | {name: one["template"]["spec"] for name, one in of_kind(found, "Deployment").items()}


@INSTALLATIONS
@pytest.mark.parametrize("release", [OLDEST, "newest"])
def test_the_schemas_of_kubernetes_take_it(of: Installation, release: str, toml: Path) -> None:
    schemas = import_module("kubernetes_validate")
    version = schemas.latest_version() if release == "newest" else release
    found = objects(replace(of, config=toml), Cluster("registry.example.com:5000/meter-sync@sha256:ab", "billing"))

    assert len(found) == (8 if of.webhook_secrets else 6)
    for one in found:
        schemas.validate(one, version, strict=True)
        assert one["metadata"]["namespace"] == "billing"


def test_no_pod_is_root_or_may_become_it_or_write_but_into_its_volumes_or_talk_to_the_cluster() -> None:
    found = pods(objects(replace(ODD, config=None)))
    assert len(found) == 5
    for pod in found.values():
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        writable = [one["name"] for one in container["volumeMounts"] if not one.get("readOnly")]
        assert writable == ["ledger", "tmp"]
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}


def test_keys_are_files_that_the_group_of_the_pod_may_read_and_no_other() -> None:
    """Those of a Secret are root's: the kubelet gives them to fsGroup, and lets it read them."""
    for name, pod in pods(objects(replace(PLAIN, webhook_secrets=(WEBHOOK_SECRET,)))).items():
        (secret,) = [one["secret"] for one in pod["volumes"] if one["name"] == "secrets"]
        assert secret["defaultMode"] == 0o400
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
        webhook = ["stripe_webhook_secret"] if name == "meter-sync-webhook" else []
        assert [one["key"] for one in secret["items"]] == ["stripe_api_key", "openmeter_api_key", *webhook]
        (container,) = pod["containers"]
        variables = {one["name"]: one["value"] for one in container["env"]}
        for one in secret["items"]:
            assert variables[f"{one['key'].upper()}_FILE"] == f"/run/secrets/meter-sync/{one['path']}"


def test_all_pods_share_the_ledger_on_one_node() -> None:
    found = objects(replace(PLAIN, webhook_secrets=(WEBHOOK_SECRET,)))
    assert of_kind(found, "PersistentVolumeClaim")["meter-sync-ledger"]["accessModes"] == ["ReadWriteOnce"]
    for pod in pods(found).values():
        (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        (container,) = pod["containers"]
        assert {"name": "METER_SYNC_LEDGER", "value": "/var/lib/meter-sync/ledger.sqlite3"} in container["env"]
    for one in found:
        if one["kind"] == "CronJob":
            labels = one["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
            assert labels.items() >= term["labelSelector"]["matchLabels"].items()


def test_with_the_ledger_on_a_server_there_is_no_volume_and_pods_may_be_on_any_node(toml: Path) -> None:
    url = ON_SERVER
    password = SecretFile("ledger_password", "METER_SYNC_LEDGER_PASSWORD_FILE", KEYS / "ledger_password")
    of = changed(ledger=url, keys=(*PLAIN.keys, password), config=toml, webhook_secrets=(WEBHOOK_SECRET,))
    of = replace(of, variables={**PLAIN.variables, "METER_SYNC_LEDGER": str(url)})

    found = objects(of)
    assert not of_kind(found, "PersistentVolumeClaim")
    for pod in pods(found).values():
        (container,) = pod["containers"]
        assert "affinity" not in pod
        assert [one["name"] for one in container["volumeMounts"]] == ["secrets", "config", "tmp"]
        variables = {one["name"]: one["value"] for one in container["env"]}
        assert variables["METER_SYNC_LEDGER"] == str(url)
        assert variables["METER_SYNC_LEDGER_PASSWORD_FILE"] == "/run/secrets/meter-sync/ledger_password"
    printed = made(of, Cluster())
    assert printed.printed.startswith("# meter-sync in Kubernetes")
    assert "SQLite" not in printed.printed
    assert "'/source[postgres]'" in printed.files[CONTAINERFILE]
    assert "[" not in made(PLAIN, Cluster()).files[CONTAINERFILE].partition("ENTRYPOINT")[0]


def test_each_job_is_alone_ended_in_time_and_not_tried_again_but_for_75() -> None:
    found = of_kind(objects(PLAIN), "CronJob")

    assert set(found) == {"meter-sync", "meter-sync-closing", "meter-sync-verify", "meter-sync-status"}
    for name, one in found.items():
        job = one["jobTemplate"]["spec"]
        assert one["concurrencyPolicy"] == "Forbid"
        # The controller looks every ten seconds, and gives up for ever after a hundred times that it missed.
        assert 10 < one["startingDeadlineSeconds"] < 100 * 60
        assert job["activeDeadlineSeconds"] > 0
        assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
        if name == "meter-sync-closing":  # the next one comes within a minute
            assert "podFailurePolicy" not in job
            assert job["ttlSecondsAfterFinished"] == 600
        else:
            by_code, by_condition = job["podFailurePolicy"]["rules"]
            assert (by_code["action"], by_code["onExitCodes"]["values"]) == ("Ignore", [75])
            assert (by_condition["action"], by_condition["onPodConditions"][0]["type"]) == (
                "Ignore",
                "DisruptionTarget",
            )


@pytest.mark.parametrize(("schedule", "hour"), [(Schedule.HOURLY, "*"), (Schedule.DAILY, "0")])
def test_the_full_run_comes_as_the_schedule_says(schedule: Schedule, hour: str) -> None:
    found = of_kind(objects(changed(schedule=schedule)), "CronJob")

    assert re.fullmatch(rf"[1-9]\d? {re.escape(hour)} \* \* \*", found["meter-sync"]["schedule"])
    assert found["meter-sync-closing"]["schedule"] == "* * * * *"


def test_the_configuration_file_comes_along_as_it_is(toml: Path) -> None:
    found = objects(changed(config=toml))
    (config,) = [one for one in found if one["kind"] == "ConfigMap"]

    assert config["data"] == {"meter-sync.toml": TOML}
    for pod in pods(found).values():
        (container,) = pod["containers"]
        assert {"name": "METER_SYNC_CONFIG", "value": "/etc/meter-sync/meter-sync.toml"} in container["env"]
        assert {"name": "config", "mountPath": "/etc/meter-sync", "readOnly": True} in container["volumeMounts"]
    toml.unlink()
    with pytest.raises(ConfigurationError):
        objects(changed(config=toml))


def test_what_a_machine_trusts_is_not_that_of_the_image() -> None:
    of = changed(variables={"SSL_CERT_FILE": "/etc/ssl/own.pem", "HTTPS_PROXY": "http://proxy:3128"})

    for pod in pods(objects(of)).values():
        (container,) = pod["containers"]
        assert "SSL_CERT_FILE" not in {one["name"] for one in container["env"]}
        assert {"name": "HTTPS_PROXY", "value": "http://proxy:3128"} in container["env"]


def test_the_webhook_is_reached_by_a_service_only_where_its_secret_is_configured() -> None:
    found = objects(replace(PLAIN, webhook_secrets=(WEBHOOK_SECRET,)))
    (service,) = of_kind(found, "Service").values()
    (deployment,) = of_kind(found, "Deployment").values()

    assert deployment["template"]["metadata"]["labels"].items() >= service["selector"].items()
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == service["ports"][0]["port"] == int(container["args"][-1])
    assert not of_kind(objects(PLAIN), "Deployment")


def test_workers_take_the_place_of_the_full_and_the_closing_run_and_are_spread_over_the_nodes(toml: Path) -> None:
    found = objects(replace(FLEET, config=toml))
    ((name, deployment),) = of_kind(found, "Deployment").items()
    (budget,) = of_kind(found, "PodDisruptionBudget").values()

    assert {"meter-sync-verify", "meter-sync-status"} == set(of_kind(found, "CronJob"))
    assert (name, deployment["replicas"], budget["maxUnavailable"]) == ("meter-sync-worker", 3, 1)
    assert deployment["strategy"] == {"type": "Recreate"}, "an older version refuses what a newer one has written"
    ((upgrade, job),) = of_kind(found, "Job").items()
    (container,) = job["template"]["spec"]["containers"]
    assert (upgrade.startswith("meter-sync-upgrade-"), container["args"][-2:]) == (True, ["ledger", "upgrade"])
    labels = deployment["template"]["metadata"]["labels"]
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    selectors = [deployment["selector"], budget["selector"], spread["labelSelector"]]
    assert selectors == [{"matchLabels": labels}] * 3
    assert "'/source[postgres,worker]'" in made(FLEET, Cluster()).files[CONTAINERFILE]
    assert not of_kind(objects(replace(FLEET, workers=0)), "PodDisruptionBudget")
    (webhook,) = pods(objects(replace(FLEET, webhook_secrets=(WEBHOOK_SECRET,))))["meter-sync-webhook"]["containers"]
    assert webhook["args"][2:4] == ["webhook", "--enqueue"], "the workers do the reporting"


def test_a_worker_is_asked_whether_it_is_well_where_it_answers_and_is_not_ended_while_the_database_is_away() -> None:
    pod = pods(objects(FLEET))["meter-sync-worker"]
    (container,) = pod["containers"]
    given = worker.make_context("worker", container["args"][container["args"].index("worker") + 1 :]).params

    (port,) = container["ports"]
    assert given["listen"] == ("0.0.0.0", port["containerPort"])  # noqa: S104 (the Pod's own address)
    ready, alive = container["readinessProbe"], container["livenessProbe"]
    assert ready["httpGet"] == alive["httpGet"] == {"path": HEALTH_PATH, "port": port["name"]}
    assert ready["periodSeconds"] * ready["failureThreshold"] <= 60
    assert alive["periodSeconds"] * alive["failureThreshold"] >= 15 * 60
    assert pod["terminationGracePeriodSeconds"] >= 2 * 60, "a request that is under way is tried for a minute"
    assert container["resources"]["limits"]["memory"] == f"{given['concurrency']}Gi"


def test_the_keys_of_accounts_are_found_in_their_folder_and_no_variable_comes_before_one() -> None:
    for pod in pods(objects(FLEET)).values():
        (secret,) = [one["secret"] for one in pod["volumes"] if one["name"] == "secrets"]
        (container,) = pod["containers"]
        variables = {one["name"]: one["value"] for one in container["env"]}

        assert [one["path"] for one in secret["items"]] == [one.name for one in FLEET.keys]
        assert variables["CREDENTIALS_DIRECTORY"] == "/run/secrets/meter-sync"
        assert not [one for one in variables if one.endswith("_FILE")]
    assert "--from-file=stripe_api_key.eu=/etc/meter-sync/eu_key " in made(FLEET, Cluster()).printed


def test_the_image_is_of_the_user_and_the_program_that_the_pods_name() -> None:
    files = made(PLAIN, Cluster()).files
    assert set(files) == {MANIFESTS, CONTAINERFILE}
    (pod, *_) = pods(objects(PLAIN)).values()
    (container,) = pod["containers"]

    assert (
        f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in files[CONTAINERFILE]
    )
    assert f'ENTRYPOINT ["{container["command"][0]}"]' in files[CONTAINERFILE]
    assert "python:3.13-slim" in files[CONTAINERFILE]
    assert f"-t {container['image']} " in files[CONTAINERFILE]
