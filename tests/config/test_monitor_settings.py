"""What may be configured of monitors, and that nothing secret is in what is said of it."""

from pathlib import Path

import pytest

from meter_sync.config import Configuration, MonitorSettings, Origin, read
from meter_sync.errors import ConfigurationError

SECRET = "f8b3c0de-secret"


def configured(tmp_path: Path, *lines: str) -> Configuration:
    file = tmp_path / "meter-sync.toml"
    file.write_text("\n".join(["[monitor]", *lines]))
    return read(file, {}, {}, ())


def monitor(tmp_path: Path, *lines: str) -> MonitorSettings:
    return configured(tmp_path, *lines).settings(()).monitor


@pytest.mark.parametrize(
    "url",
    [
        f"https://hc-ping.com/{SECRET}",
        f"https://kuma.example.com/api/push/{SECRET}?status=up&msg=a%20b",
        f"http://127.0.0.1:8000/ping/{SECRET}",
        f"http://localhost/ping/{SECRET}",
    ],
)
def test_an_address_is_taken_as_it_is(tmp_path: Path, url: str) -> None:
    found = monitor(tmp_path, f'ping_url = "{url}"').ping_url
    assert found
    assert found.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        f"http://hc.example.com/{SECRET}",
        f"hc-ping.com/{SECRET}",
        f"https://user:{SECRET}@hc-ping.com/1",
        f"https://hc-ping.com/{SECRET}#part",
        f"https://hc-ping.com/a {SECRET}",
        f"https://[{SECRET}/",
        f"ftp://hc-ping.com/{SECRET}",
    ],
)
def test_any_other_is_refused_without_being_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"monitor\.ping_url") as refused:
        monitor(tmp_path, f'ping_url = "{url}"')

    assert SECRET not in refused.value.message


def test_a_file_that_is_not_collected_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"monitor.textfile: must end with \.prom"):
        monitor(tmp_path, 'textfile = "/var/lib/node_exporter/textfile/meter_sync.txt"')


def test_credentials_of_systemd_win_over_the_file_that_a_unit_may_not_read(tmp_path: Path) -> None:
    credential = tmp_path / "monitor_notify_file"
    credential.touch()
    file = tmp_path / "meter-sync.toml"
    for text in ("", '[monitor]\nnotify_file = "/etc/meter-sync/notify"\n'):
        file.write_text(text)
        found = read(file, {"CREDENTIALS_DIRECTORY": str(tmp_path)}, {}, ())
        assert found.monitor.notify_file == found.settings(()).monitor.notify_file == credential
        assert found.origins["monitor.notify_file"] == Origin("credentials", str(credential))


def test_without_a_section_nobody_is_told(tmp_path: Path) -> None:
    assert monitor(tmp_path) == MonitorSettings(ping_url=None, textfile=None, notify_file=None)


def test_who_is_told_is_known_also_where_another_setting_is_wrong(tmp_path: Path) -> None:
    found = configured(tmp_path, 'textfile = "/run/x.prom"', "[openmeter]", "concurrency = 0")

    assert (found.read, found.monitor.textfile) == (None, Path("/run/x.prom"))
    assert configured(tmp_path, 'textfile = "/run/x"').monitor == MonitorSettings()
