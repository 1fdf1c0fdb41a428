"""The file with the secrets that webhooks are signed with: added to, never printed, and never left half written."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from meter_sync.effects import effect
from meter_sync.errors import ConfigurationError

_SEPARATE = re.compile(r"[^\s,]+")
_MODE = 0o600


@dataclass(frozen=True, slots=True)
class SecretsFile:
    """A file of secrets, one in a line, for its owner only."""

    path: Path

    def count(self) -> int:
        """Return how many secrets it has; a missing file has none. Raise ConfigurationError for what is none."""
        return len(_SEPARATE.findall(self._text()))

    def check(self) -> None:
        """Raise ConfigurationError unless a secret can be added, as far as that can be told without writing.

        Stripe tells each secret but once.
        """
        self.count()
        folder = self._target.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise self._wrong(f"cannot be written: {folder} is no folder that this user may write")
        with contextlib.suppress(FileNotFoundError):
            if os.geteuid() not in (0, self._target.stat().st_uid):
                raise self._wrong("is another user's, who would own it no more")

    def add(self, secret: SecretStr) -> None:
        """Add a secret in a line of its own, whole or not at all. Raise ConfigurationError."""
        before = self._text()
        gap = "" if not before or before.endswith("\n") else "\n"
        with effect("secrets"), self._replacement() as (descriptor, temporary):
            with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as opened:
                opened.write(f"{before}{gap}{secret.get_secret_value()}\n")
                opened.flush()
                os.fsync(opened.fileno())
            temporary.replace(self._target)
            folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @property
    def _target(self) -> Path:
        """Where the file is, if its name is a link: a link stays one."""
        return Path(os.path.realpath(self.path))

    def _text(self) -> str:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise self._wrong(f"cannot be read: {why}") from error
        if not all(one.startswith("whsec_") for one in _SEPARATE.findall(text)):
            raise self._wrong("has something that is no signing secret of a webhook: it begins with whsec_")
        return text

    @contextmanager
    def _replacement(self) -> Iterator[tuple[int, Path]]:
        """Give a file beside it, of its owner and for that one only, that is gone in the end."""
        target = self._target
        try:
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            try:
                os.fchmod(descriptor, _MODE)
                with contextlib.suppress(FileNotFoundError):
                    owner = target.stat()
                    if owner.st_uid != os.geteuid():
                        os.fchown(descriptor, owner.st_uid, owner.st_gid)
                yield descriptor, Path(name)
            finally:
                os.close(descriptor)
                Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise self._wrong(f"cannot be written: {error.strerror}") from error

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"the file of webhook secrets {self.path} {what}",
            "let this user write the file and its folder, or correct stripe.webhook_secret_file",
        )
