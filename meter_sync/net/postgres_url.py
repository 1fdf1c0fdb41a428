"""Where a PostgreSQL database is, as libpq reads it (PostgreSQL documentation, "Connection URIs")."""

from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

SCHEMES = ("postgresql", "postgres")


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A database on a server. `str` of it may be shown: the password is apart."""

    url: str
    """Without a password."""
    password: str | None = field(default=None, repr=False)
    """None where libpq finds it itself, in a service, PGPASSFILE or PGPASSWORD, or needs none."""

    def __str__(self) -> str:
        return self.url

    def beside(self, prefix: str) -> "PostgresUrl":
        """Return another database of the same server, whose name has a prefix."""
        parts = urlsplit(self.url)
        return replace(self, url=urlunsplit(parts._replace(path=f"/{prefix}{parts.path.removeprefix('/')}")))


def is_postgres_url(text: str) -> bool:
    """Say whether a text is meant to be the URL of a PostgreSQL database."""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def postgres_url(text: str) -> PostgresUrl:
    """Return a URL as it was written, its password apart. Raise ValueError if it is none, without a part of it."""
    try:
        parts = urlsplit(text)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("must be an address such as postgresql://user@host/database") from None
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, of_user = user.partition(":")
    passwords = [value for key, value in given if key == "password"]
    password = unquote(of_user) if colon else (passwords[-1] if passwords else None)
    query = urlencode([(key, value) for key, value in given if key != "password"])
    return PostgresUrl(urlunsplit(("postgresql", f"{name}{at}{hosts}", parts.path, query, "")), password or None)


def is_with_password(value: object) -> bool:
    """Say whether something that was configured is such a URL, and has a password in it."""
    try:
        return isinstance(value, str) and is_postgres_url(value) and postgres_url(value).password is not None
    except ValueError:
        return False
