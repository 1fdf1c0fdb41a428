"""The ledger's files."""

import os
import pwd
from pathlib import Path

from meter_sync.errors import ConfigurationError


def make_folder(folder: Path) -> None:
    """Make the folder, and those above it, for this user only, if missing. Raise ConfigurationError if that fails.

    Those above it count as much: whoever may write one of them can put another ledger in this one's place.
    """
    try:
        missing = [one for one in folder.parents if not one.exists()]
        for one in (*reversed(missing), folder):
            one.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error.strerror or str(error)) from error


def make_file(path: Path) -> None:
    """Make the file, readable for this user only, if it is missing. Raise ConfigurationError if that fails."""
    make_folder(path.parent)
    try:
        is_new = not path.exists()
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        if is_new:
            own_like(path, path.parent)
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def read_text(path: Path) -> str | None:
    """Return what is in a small file, or None where there is none. Raise ConfigurationError if it cannot be read."""
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def replace_text(path: Path, text: str) -> None:
    """Put a text in the place of what is in a small file, as a whole and to last, readable for this user only.

    Whoever calls sees to it that nobody else does at the same time. Raise ConfigurationError if that fails.
    """
    new = path.with_name(path.name + ".new")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        own_like(new, path if path.exists() else path.parent)
        new.replace(path)
        make_last(path.parent)
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def own_like(path: Path, other: Path) -> None:
    """Give what root has made to the user that another file is of, or a folder: else that user's runs are shut out.

    Raise OSError.
    """
    if os.geteuid() == 0:
        of_other = other.stat()
        os.chown(path, of_other.st_uid, of_other.st_gid)


def make_last(folder: Path) -> None:
    """Let the names in a folder outlive a power loss."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def unwritable(path: Path, why: str) -> ConfigurationError:
    """Return the error of a path that this user cannot write."""
    return ConfigurationError(
        f"the ledger {path} cannot be used: {why}; nothing was read or written",
        f"{_whose(path)}make it, and its folder, writable for this user, or name another one with METER_SYNC_LEDGER",
        code="ledger_unwritable",
    )


def _whose(path: Path) -> str:
    """Say whose a file is that is another user's."""
    try:
        owner = path.stat().st_uid
        return "" if owner == os.geteuid() else f"it is {pwd.getpwuid(owner).pw_name}'s: start it as that user; or "
    except (OSError, KeyError):
        return ""
