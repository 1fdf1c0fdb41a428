"""Where the configuration file is looked for."""

import os
from collections.abc import Sequence
from pathlib import Path

import platformdirs

CONFIG_NAME = "meter-sync.toml"


def usual_places() -> tuple[Path, ...]:
    """Return the files that are looked for where none is named, the first of which counts."""
    folders = (
        Path(),
        platformdirs.user_config_path("meter-sync"),
        platformdirs.site_config_path("meter-sync"),
        Path("/etc/meter-sync"),
    )
    return tuple(dict.fromkeys(absolute(folder / CONFIG_NAME) for folder in folders))


def absolute(path: Path) -> Path:
    """Return a path by which it is found from anywhere, as far as that can be told."""
    try:
        return path.expanduser().absolute()
    except (OSError, RuntimeError):  # the working directory, or the user, is gone
        return path


def found_file(places: Sequence[Path]) -> Path | None:
    """Return the first file that there is, or None.

    Also what cannot be read is found: a broken link, or a folder that this user may not look into, must not silently
    mean the defaults.
    """
    return next((file for file in places if _may_be_there(file)), None)


def _may_be_there(file: Path) -> bool:
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        # The folder is the program's own and nobody knows what is in it; one above it, or the working directory, says
        # nothing: of another user's home there is nothing to know.
        return file.parent != absolute(Path()) and os.path.lexists(file.parent)
    except OSError:  # such as links that lead in a circle: opening it says what is wrong
        return True
    return True


def expanded(path: Path) -> Path:
    """Return the path with `~` replaced by the home folder."""
    if "\0" in str(path):
        raise ValueError("must be a path, and has a NUL in it")
    try:
        return path.expanduser()
    except RuntimeError as error:  # the folder of a user that there is not
        raise ValueError(str(error)) from error
