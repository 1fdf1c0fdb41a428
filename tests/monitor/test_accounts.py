"""Monitors of several accounts in one configuration."""

from pathlib import Path

from tests.support.accounts import Accounts, accounts
from tests.support.listening import Listener

EU, US = "eu", "us"


def told(both: Accounts, listener: Listener) -> list[str]:
    """Run, and return of which accounts people were told, and the last ping."""
    monitor = f'[monitor]\nping_url = "http://{listener.address}/ping"\nnotify_file = "{both.folder}/notify"\n'
    both.run(toml=monitor + both.row(EU) + both.row(US))
    bodies = [one.body for one in listener.heard if one.path == "/told"]
    pings = [path for path in listener.paths if path.startswith("/ping") and not path.endswith("start")]
    listener.clear()
    return [*(name for name in (EU, US) for body in bodies if f"Account {name}:" in body), *pings]


def test_people_are_told_of_each_account_and_a_ping_is_of_all(tmp_path: Path, listener: Listener) -> None:
    """Once while it lasts, and again when that account is well: another one's news take none of it away."""
    with accounts(tmp_path, EU, US) as both:
        both.file("notify", f"json://{listener.address}/told")
        assert told(both, listener) == ["/ping/0"]
        both.sandboxes[US].stripe.keys.clear()
        assert told(both, listener) == [US, "/ping/78"]
        assert told(both, listener) == ["/ping/78"]
        both.sandboxes[US].stripe.keys["sk_test_us"] = None
        assert told(both, listener) == [US, "/ping/0"]
