"""What can be said of a server's address without asking for it."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Say whether the host is this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
