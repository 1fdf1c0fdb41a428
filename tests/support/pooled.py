"""A real PgBouncer before a server."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from meter_sync.net.postgres_url import PostgresUrl


@contextmanager
def pooled(url: PostgresUrl, mode: str) -> Iterator[PostgresUrl]:
    """Put a pool before a database, and yield where it is; skip the test where there is no PgBouncer."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer: install Debian's package of that name")
    parts = conninfo_to_dict(url.url)
    own = Path(tempfile.mkdtemp(prefix="meter-sync-pool-"))
    user = "postgres" if os.geteuid() == 0 else None
    settings = own / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{parts['dbname']} = host={parts['host']} user=postgres\n"
        f"[pgbouncer]\npool_mode = {mode}\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {own}\n"
        f"auth_type = any\nlogfile = {own}/log\npidfile = {own}/pid\nignore_startup_parameters = options\n"
    )
    if user:
        for one in (own, settings):
            shutil.chown(one, user)
    process = subprocess.Popen([program, str(settings)], user=user, stderr=subprocess.DEVNULL)
    through = PostgresUrl(f"postgresql://postgres@/{parts['dbname']}?host={own}&port=6432")
    try:
        for _ in range(1000):
            try:
                psycopg.connect(through.url).close()
                break
            except psycopg.OperationalError:
                continue
        yield through
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(own)
