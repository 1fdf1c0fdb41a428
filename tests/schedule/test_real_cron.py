"""The crontab under the cron of this machine, in a room of its own: it starts the program, and mails what it prints."""

import email
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path

import pytest

from meter_sync.cli.schedule.crontab import Machine, crontab
from tests.schedule.installations import changed, tool
from tests.support.world import METER, World

pytestmark = pytest.mark.installed

CRON = Path("/usr/sbin/cron")
WITHIN_SECONDS = 60
"""cron starts the line at once when it starts itself; this is for a machine that is busy."""
ROOM = """
set -e
for place in /var/spool/cron /etc/cron.d /etc/crontab /run /usr/sbin; do mount --bind "$1$place" "$place"; done
exec /usr/sbin/cron -f
"""
"""It sees neither crontabs nor a cron nor a sendmail but what is put there, and nobody sees it."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0))
    with world.sandbox.in_background():
        yield world


def apart() -> list[str]:
    """What starts a command with mounts and processes of its own, which end with it."""
    return [tool("unshare"), "--mount", "--pid", "--fork", "--kill-child"]


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """The files that cron finds there, and a pipe for what is mailed."""
    if os.geteuid() or not CRON.exists():
        pytest.skip("this machine has no cron, or not for this user")
    if subprocess.run([*apart(), "true"], check=False, capture_output=True).returncode:
        pytest.skip("no room of its own can be made for cron here")
    room = tmp_path / "room"
    for folder in ("var/spool/cron/crontabs", "etc/cron.d", "run", "usr/sbin"):
        (room / folder).mkdir(parents=True)
    (room / "etc/crontab").touch()
    shutil.copy(CRON, room / "usr/sbin/cron")
    os.mkfifo(room / "mail")
    sendmail = room / "usr/sbin/sendmail"
    sendmail.write_text(f'#!/bin/sh\ncat >"{room}/mail"\n')
    sendmail.chmod(0o755)
    return room


def mailed(room: Path) -> Message:
    """Let cron run until it mails something, and return that."""
    pipe = os.open(room / "mail", os.O_RDONLY | os.O_NONBLOCK)
    cron = subprocess.Popen([*apart(), "sh", "-c", ROOM, "sh", room])
    try:
        assert select.select([pipe], [], [], WITHIN_SECONDS)[0], "nothing was mailed"
        os.set_blocking(pipe, True)
        with os.fdopen(pipe, "rb") as opened:
            return email.message_from_binary_file(opened)
    finally:
        cron.kill()
        cron.wait()


def test_cron_starts_the_program_and_mails_what_is_held(world: World, room: Path) -> None:
    subscription = world.subscribe(period_start=world.now - timedelta(days=5))
    world.use(subscription, 5)
    world.execute()
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "3"
    settings = {
        name: value
        for name, value in world.environment().items()
        if name.startswith(("STRIPE_", "OPENMETER_", "METER_SYNC_"))
    }
    program = Path(world.command()[0])
    of = changed(program=program, ledger=world.ledger, variables=settings, keys=())
    text = crontab(of, Machine("billing@example.com", world.folder / "log", "root", minute=7))
    file = room / "var/spool/cron/crontabs/root"
    at_once, lines = re.subn(r"^7 \* \* \* \*", "@reboot", text, flags=re.MULTILINE)
    assert lines == 1
    file.write_text(at_once)  # where one of its other lines were not understood, cron would take none of it
    file.chmod(0o600)

    mail = mailed(room)

    assert mail["To"] == "billing@example.com"
    assert "run --quiet" in mail["Subject"]
    assert "held (decrease)" in str(mail.get_payload())
    assert '"event": "query"' in (world.folder / "log").read_text()
