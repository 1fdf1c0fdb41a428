"""Monitors of several accounts in one configuration."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

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


def figures(both: Accounts, file: Path, *arguments: str) -> dict[str, float]:
    """Run, and return the exit codes and the numbers of items that the file has of each account."""
    both.run(*arguments, toml=f'[monitor]\ntextfile = "{file}"\n' + both.row(EU) + both.row(US))
    families = list(text_string_to_metric_families(file.read_text("utf-8")))
    wanted = ("meter_sync_run_exit_code", "meter_sync_items")
    samples = [one for family in families for one in family.samples if one.name in wanted]
    return {f"{one.name.removeprefix('meter_sync_')} {one.labels['account']}": one.value for one in samples}


def test_figures_are_of_each_account_and_those_of_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "meter_sync.prom"
    with accounts(tmp_path, EU, US) as both:
        assert figures(both, file, "--account", EU) == {"run_exit_code eu": 0, "items eu": 1}
        both.sandboxes[US].stripe.keys.clear()
        both.sandboxes[EU].stripe.keys.clear()
        assert figures(both, file, "--account", US) == {"run_exit_code eu": 0, "items eu": 1, "run_exit_code us": 78}
        both.sandboxes[US].stripe.keys["sk_test_us"] = None
        expected = {"run_exit_code eu": 78, "items eu": 1, "run_exit_code us": 0, "items us": 1}
        assert figures(both, file) == expected
