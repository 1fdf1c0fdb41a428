"""How the image is made that the Pods of the manifests are of."""

from pathlib import Path

from meter_sync import __version__
from meter_sync.cli.schedule.installation import Installation
from meter_sync.config import NOTIFY_FILE

PROGRAM = "/opt/meter-sync/bin/meter-sync"
USER = 10001
STATE_FOLDER = Path("/var/lib/meter-sync")
"""The home of that user."""


def containerfile(installation: Installation) -> str:
    """Return how the image is made, with the extras that this configuration needs."""
    needed = {
        "notify": any(one.name == NOTIFY_FILE for one in installation.keys),
        "postgres": installation.is_on_server,
        "worker": installation.workers > 0,
    }
    extras = ",".join(name for name, is_needed in needed.items() if is_needed)
    return _CONTAINERFILE.replace(" /source\n", f" '/source[{extras}]'\n") if extras else _CONTAINERFILE


_CONTAINERFILE = f"""\
# The image of meter-sync, as `meter-sync schedule kubernetes` writes it. Build it in a clone of the repository:
#   podman build -f Containerfile -t meter-sync:{__version__} .
FROM docker.io/library/python:3.13-slim AS build
COPY . /source
RUN python -m venv /opt/meter-sync && /opt/meter-sync/bin/pip install --no-cache-dir /source

FROM docker.io/library/python:3.13-slim
RUN useradd --system --uid {USER} --user-group --home-dir {STATE_FOLDER} --shell /usr/sbin/nologin meter-sync \\
    && install -d -o {USER} -g {USER} -m 0700 {STATE_FOLDER}
COPY --from=build /opt/meter-sync /opt/meter-sync
ENV PATH=/opt/meter-sync/bin:$PATH
USER {USER}:{USER}
ENTRYPOINT ["{PROGRAM}"]
CMD ["--help"]
"""
