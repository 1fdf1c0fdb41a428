"""`meter-sync schedule`: ready files for cron, systemd or Kubernetes, made for the configuration in effect."""

from functools import partial
from pathlib import Path

import click

from meter_sync.cli.globals import Globals
from meter_sync.cli.options import Matching
from meter_sync.cli.schedule import crontab as for_cron
from meter_sync.cli.schedule import kubernetes as for_kubernetes
from meter_sync.cli.schedule import kubernetes_pods
from meter_sync.cli.schedule import systemd as for_systemd
from meter_sync.cli.schedule.giving import Destination, give, written

ADDRESS = Matching("ADDRESS", r"[A-Za-z0-9@._+,-]+", "an address for mail, or a user of this machine")
USER = Matching("USER", r"[A-Za-z_][A-Za-z0-9_.-]*", "the name of a user")
NAMESPACE = Matching("NAMESPACE", r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a namespace of Kubernetes")
IMAGE = Matching("IMAGE", r"[A-Za-z0-9][A-Za-z0-9._:/@-]*", "the name of an image")
FILE = Matching("FILE", r"/[A-Za-z0-9._/ +@-]*[A-Za-z0-9._+@-]", "the absolute path of a file")

MAILTO = click.option(
    "--mailto",
    type=ADDRESS,
    default="root",
    show_default=True,
    help="Who is told: an address, or a user of this machine.",
)

WORKERS = click.option(
    "--workers",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Have so many workers in the place of the full and the closing run; the ledger is on a server.",
)


@click.group()
def schedule() -> None:
    """Print ready files for cron, systemd or Kubernetes, or write them.

    They start this program with the configuration that is in effect now: its file, its ledger, the variables that are
    set. They name the files of keys, and have no secret in them. Asks no server, and needs no key.
    """


@schedule.command()
@MAILTO
@click.option(
    "--log", type=FILE, default="/var/log/meter-sync/meter-sync.log", show_default=True, help="The file of the log."
)
@click.option("--user", type=USER, default="meter-sync", show_default=True, help="Whose crontab it is to be.")
@click.option(
    "--minute",
    type=click.IntRange(0, 59),
    help="When the full run comes within its hour; default: a minute that the configuration decides, and not 0.",
)
@written
@click.pass_obj
def crontab(options: Globals, destination: Destination, mailto: str, log: str, user: str, minute: int | None) -> None:
    """Print a crontab, and nothing else; with --write also what rotates its log.

    It has the full run, the closing run, verify, what is unbilled, and status.
    """
    give(options, destination, partial(for_cron.made, machine=for_cron.Machine(mailto, Path(log), user, minute)))


@schedule.command()
@MAILTO
@WORKERS
@written
@click.pass_obj
def systemd(options: Globals, destination: Destination, mailto: str, workers: int | None) -> None:
    """Print units: a service and a timer each for the full run, the closing run, verify and status.

    With them comes one that mails of what failed, and where a secret of webhooks is configured one that receives them.
    """
    give(options, destination, partial(for_systemd.made, mailto=mailto), workers)


@schedule.command()
@click.option(
    "--image", type=IMAGE, default=kubernetes_pods.IMAGE, show_default=True, help="The image that the Pods are made of."
)
@click.option("--namespace", type=NAMESPACE, help="Where the objects go; default: that of whoever applies them.")
@WORKERS
@written
@click.pass_obj
def kubernetes(
    options: Globals, destination: Destination, image: str, namespace: str | None, workers: int | None
) -> None:
    """Print manifests for `kubectl apply -f -`; with --write also a Containerfile for their image.

    They are a CronJob each for the full run, the closing run, verify and status, the volume of a ledger that is a file,
    the configuration file, and where a secret of webhooks is configured a Deployment that receives them.
    """
    give(options, destination, partial(for_kubernetes.made, cluster=kubernetes_pods.Cluster(image, namespace)), workers)
