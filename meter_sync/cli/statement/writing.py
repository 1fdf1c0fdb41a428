"""The file of a statement: whole, or not there."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from meter_sync.cli.statement.times import name_of
from meter_sync.core.billing.item import Period
from meter_sync.errors import MeterSyncError

_READABLE = 0o666


def file_for(folder: Path | None, account: str, time: Period, output_format: str) -> Path:
    """Return where a statement is written of which nobody says where."""
    of_account = f"{account}-" if account else ""
    return (folder or Path()) / f"statement-{of_account}{name_of(time)}.{output_format}"


def written(file: Path, text: str) -> None:
    """Write a file as a whole: what was there before stays until it is. Raise MeterSyncError where it cannot be."""
    new: str | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(0, "it is a folder", str(file))
        descriptor, new = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with open(descriptor, "w", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
        Path(new).chmod(_READABLE & ~_umask())
        Path(new).replace(file)
    except OSError as error:
        if new is not None:
            with suppress(OSError):
                Path(new).unlink()
        raise MeterSyncError(
            f"{file} could not be written: {error.strerror or error}; nothing of it is there",
            "name another place with --output, or see to its folder",
            code="not_written",
        ) from error


def _umask() -> int:
    """Return which permissions new files of this process do not get."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
