"""What `meter-sync schedule` makes for several accounts: each finds its own key, and workers may carry out the runs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import Accounts, accounts
from tests.support.world import Outcome

EU, US = "eu", "us"
SERVER = "postgresql://meter-sync@db.example.com/meter_sync"
PLACE = "/etc/meter-sync"


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Accounts]:
    with accounts(tmp_path, EU, US) as found:
        yield found


def scheduled(both: Accounts, kind: str, *options: str, toml: str = "", **variables: str) -> Outcome:
    done = both.meter_sync("schedule", kind, *options, toml=toml, **variables)
    assert done.code == 0, done.stderr
    return done


def handed_over(both: Accounts, toml: str, **variables: str) -> dict[str, str]:
    """The file of each credential, by its name."""
    done = scheduled(both, "systemd", toml=toml, **variables)
    return dict(re.findall(r"^LoadCredential=([^:]*):(.*)$", done.stdout, flags=re.MULTILINE))


def test_each_account_is_billed_with_its_own_key_where_the_schedule_puts_it(both: Accounts) -> None:
    toml = "".join(map(both.row, (EU, US))).replace(f'api_key_file = "{both.folder}/us.stripe"\n', "")
    found = handed_over(both, toml)
    (secret,) = re.findall(r"create secret generic meter-sync (.*)", scheduled(both, "kubernetes", toml=toml).stdout)
    assert dict(re.findall(r"--from-file=([^=]*)=(\S*)", secret)) == found
    assert found.pop("stripe_api_key.us") == f"{PLACE}/stripe_api_key.us", "no file is named for it"

    folder = both.folder / "credentials"
    folder.mkdir()
    for name, file in found.items():
        Path(file).rename(folder / name)
    (both.folder / "us.stripe").rename(folder / "stripe_api_key.us")
    done = both.meter_sync(
        "run",
        "--as-of",
        both.now.isoformat(),
        toml=toml.replace(str(both.folder), PLACE),
        CREDENTIALS_DIRECTORY=str(folder),
    )

    assert (done.code, both.billed) == (0, {EU: 10, US: 20}), done.stderr


def test_what_accounts_have_in_common_goes_in_once_and_no_key_to_a_server_that_it_is_not_for(both: Accounts) -> None:
    common = f"""
        [openmeter]
        url = "https://o.example"
        api_key_file = "{PLACE}/om_key"
        [[accounts]]
        name = "eu"
        [accounts.stripe]
        api_key_file = "{PLACE}/eu_key"
        [[accounts]]
        name = "us"
        [accounts.openmeter]
        url = "https://another.example"
        """
    own = {"stripe_api_key.eu": f"{PLACE}/eu_key"}
    om_key = {"openmeter_api_key": f"{PLACE}/om_key"}
    usual = {"stripe_api_key": f"{PLACE}/stripe_api_key"}

    assert handed_over(both, common) == {**om_key, **own, "stripe_api_key.us": f"{PLACE}/stripe_api_key.us"}
    assert handed_over(both, common, STRIPE_API_KEY="sk_test_common") == {**usual, **om_key, **own}
    connected = f"{common}\n[connect]\nall = true\n"
    assert handed_over(both, connected) == {**usual, **om_key, **own}
    assert handed_over(both, common[: common.rindex("[[accounts]]")], STRIPE_API_KEY="sk_test_unused") == {
        **om_key,
        **own,
    }
    assert handed_over(both, "[connect]\nall = true\n[openmeter]\nurl = 'https://o.example'\n") == usual


def test_a_key_that_a_unit_was_handed_for_an_account_stays_its_own(both: Accounts) -> None:
    folder = both.folder / "credentials"
    folder.mkdir()
    (folder / "stripe_api_key.us").write_text("sk_test_us")
    toml = f"""
        [stripe]
        api_key_file = "{PLACE}/common_key"
        [openmeter]
        url = "https://o.example"
        [[accounts]]
        name = "eu"
        [[accounts]]
        name = "us"
        """

    assert handed_over(both, toml, CREDENTIALS_DIRECTORY=str(folder)) == {
        "stripe_api_key": f"{PLACE}/common_key",
        "stripe_api_key.us": f"{PLACE}/stripe_api_key.us",
    }


@pytest.mark.parametrize("kind", ["crontab", "systemd", "kubernetes"])
def test_one_job_compares_all_accounts_however_many_there_are(both: Accounts, kind: str) -> None:
    rows = "".join(f'[[accounts]]\nname = "shop-{number}"\n' for number in range(11))
    toml = f'[openmeter]\nurl = "https://o.example"\n[connect]\nall = true\n{rows}'
    made = scheduled(both, kind, toml=toml).stdout

    assert len(re.findall(r"(?: |- )verify(?:\n +- | )--sample", made)) == 1
    assert not re.search(r"--account|shop-\d+\.timer", made)


@pytest.mark.parametrize("kind", ["systemd", "kubernetes"])
def test_one_webhook_has_the_secrets_of_all_accounts_and_nothing_else_has_them(both: Accounts, kind: str) -> None:
    key = f'api_key_file = "{both.folder}/eu.stripe"\n'
    toml = "".join(map(both.row, (EU, US))).replace(key, f'{key}webhook_secret_file = "{PLACE}/eu_secret"\n')
    handed = re.compile(r"(?:LoadCredential=|path: )(stripe_webhook_secret[.\w]*)")
    parts = re.split(r"^(?:---|# /etc.*)$", scheduled(both, kind, toml=toml).stdout, flags=re.MULTILINE)
    with_common = scheduled(both, kind, toml=toml, STRIPE_WEBHOOK_SECRET="whsec_1").stdout

    (webhook,) = [one for one in parts if handed.search(one)]
    assert re.search(r"info webhook$|^ +- webhook$", webhook, flags=re.MULTILINE)
    assert {"stripe_api_key.eu", "stripe_api_key.us"} <= set(re.findall(r"stripe_api_key[.\w]*", webhook))
    assert handed.findall(webhook) == ["stripe_webhook_secret.eu"]
    assert handed.findall(with_common) == ["stripe_webhook_secret", "stripe_webhook_secret.eu"]


@pytest.mark.parametrize("kind", ["systemd", "kubernetes"])
def test_workers_are_for_a_ledger_on_a_server(both: Accounts, kind: str) -> None:
    refused = both.meter_sync("schedule", kind, "--workers", "2")
    assert (refused.code, refused.stdout, "workers share one on a server" in refused.stderr) == (78, "", True)
    assert "meter-sync ledger copy" in refused.stderr

    server = {"METER_SYNC_LEDGER": SERVER, "METER_SYNC_LEDGER_PASSWORD_FILE": f"{PLACE}/not_there_yet"}
    made = scheduled(both, kind, "--workers", "2", **server).stdout
    assert ("worker" in made, "--closing" in made, " status" in made) == (True, False, True)
    assert re.search(rf"ledger_password[:=]{PLACE}/not_there_yet", made)


@pytest.mark.parametrize(
    "kind", ["crontab", *(pytest.param(one, marks=pytest.mark.every_way) for one in ("systemd", "kubernetes"))]
)
def test_what_a_database_is_found_by_goes_in_and_no_password(both: Accounts, kind: str) -> None:
    of_libpq = {"PGPASSFILE": "pgpass", "PGSSLROOTCERT": "/etc/ssl/db.pem", "PGSSLMODE": "verify-full"}
    server = {"METER_SYNC_LEDGER": SERVER, **of_libpq, "PGPASSWORD": "hunter2"}
    made = scheduled(both, kind, **server)
    with_file = scheduled(both, kind, **server, METER_SYNC_LEDGER_PASSWORD_FILE=f"{PLACE}/password")
    of_file = scheduled(both, kind, **of_libpq, PGPASSWORD="hunter2")

    for name, value in {**of_libpq, "PGPASSFILE": f"{both.folder}/pgpass"}.items():
        assert re.search(rf"{name}={value}\n|name: {name}\n +value: {value}\n", made.stdout), name
    assert "PGPASSWORD is left out" in made.stderr
    assert "ledger_password_file" in made.stderr
    assert f"{both.folder}/pgpass (PGPASSFILE) is read only where whoever runs this owns it" in made.stderr
    assert "hunter2" not in made.stdout + made.stderr + with_file.stdout + with_file.stderr
    assert "PGPASSWORD" not in with_file.stderr
    assert "PGSSLMODE" not in of_file.stdout
