"""What the environment says of proxies, and what lies in the home folder, as the installed command reads it."""

import base64
import socket

import pytest

from tests.support.world import World

pytestmark = pytest.mark.installed


def test_what_netrc_has_for_a_host_does_not_take_the_place_of_the_key(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    netrc = world.folder / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\ndefault login a password b\n", encoding="utf-8")

    assert world.run(NETRC=str(netrc)).verdict == ("reported", None)


def test_the_proxy_of_the_environment_is_used(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(30)
        process = world.start(
            "run",
            https_proxy=f"http://127.0.0.1:{proxy.getsockname()[1]}",
            no_proxy="",
            STRIPE_API_BASE="https://api.stripe.invalid",
            METER_SYNC_RETRY_SECONDS="0.1",
        )
        connection, _ = proxy.accept()
        asked = connection.recv(1000)
        connection.close()
    process.communicate(timeout=60)

    assert asked.startswith(b"CONNECT api.stripe.invalid:443")
    assert world.sandbox.stripe_key.encode() not in asked


def test_a_proxys_password_is_sent_to_it_and_stands_in_no_message(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(30)
        running = world.start(
            "run",
            STRIPE_API_BASE="https://api.stripe.invalid",
            https_proxy=f"http://operator:Secret-Word@127.0.0.1:{proxy.getsockname()[1]}",
            no_proxy="",
            METER_SYNC_RETRY_SECONDS="0",
        )
        connection, _ = proxy.accept()
        with connection:
            asked = connection.recv(4096)
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        _, stderr = running.communicate(timeout=30)

    assert base64.b64encode(b"operator:Secret-Word") in asked
    assert "407" in stderr
    assert "Secret-Word" not in stderr


def test_this_machine_is_not_reached_through_a_proxy(world: World) -> None:
    world.subscribe()

    assert world.run(http_proxy="http://127.0.0.1:9", no_proxy="").code == 0
