"""TLS is always verified: no setting and no variable of the environment switches that off."""

from collections.abc import Iterator

import pytest

from tests.security.tls import CERTIFICATE, Listener, listening
from tests.support.ways import one_fast
from tests.support.world import World

ADDRESSES = {"STRIPE_API_BASE": "stripe_address", "OPENMETER_URL": "openmeter_address"}
SWITCHES = {
    "PYTHONHTTPSVERIFY": "0",
    "NODE_TLS_REJECT_UNAUTHORIZED": "0",
    "GIT_SSL_NO_VERIFY": "1",
    "REQUESTS_CA_BUNDLE": str(CERTIFICATE),
    "CURL_CA_BUNDLE": str(CERTIFICATE),
    "OPENMETER_VERIFY": "false",
    "STRIPE_VERIFY_SSL_CERTS": "false",
}
"""What switches verification off, or trusts this certificate, elsewhere."""


@pytest.fixture
def self_signed() -> Iterator[Listener]:
    with listening(CERTIFICATE) as listener:
        yield listener


@pytest.mark.parametrize("address", one_fast(ADDRESSES, "STRIPE_API_BASE"))
def test_a_server_that_nobody_vouches_for_gets_no_key(world: World, self_signed: Listener, address: str) -> None:
    url = f"https://localhost:{self_signed.port}"

    done = world.run(METER_SYNC_RETRY_SECONDS="60", **{address: url}, **SWITCHES)

    assert (done.code, done.error_code) == (78, ADDRESSES[address])
    error = done.document["error"]
    assert f"{url} shows a certificate that cannot be trusted" in error["message"]
    assert address in error["hint"]
    assert "SSL_CERT_FILE" in error["hint"]
    assert self_signed.connections <= 3, "of what is asked at once, nothing is tried again"
    assert self_signed.received == b""
    assert not world.writes


@pytest.mark.parametrize("address", one_fast(ADDRESSES, "STRIPE_API_BASE"))
def test_a_certificate_for_another_name_is_not_trusted_either(
    world: World, self_signed: Listener, address: str
) -> None:
    """Naming an authority of one's own adds trust in it, and does not switch verification off."""
    done = world.run(SSL_CERT_FILE=str(CERTIFICATE), **{address: f"https://127.0.0.1:{self_signed.port}"})

    assert (done.code, done.error_code) == (78, ADDRESSES[address])
    assert self_signed.received == b""


@pytest.mark.parametrize(("address", "key"), [("STRIPE_API_BASE", "stripe_key"), ("OPENMETER_URL", "openmeter_key")])
def test_an_authority_of_ones_own_is_named_by_the_environment(
    world: World, self_signed: Listener, address: str, key: str
) -> None:
    """The checks above can fail: trusted, the same server gets the key."""
    done = world.run(SSL_CERT_FILE=str(CERTIFICATE), **{address: f"https://localhost:{self_signed.port}"})

    assert (done.code, done.error_code) == (78, ADDRESSES[address])
    assert f"Bearer {getattr(world.sandbox, key)}".encode() in self_signed.received


def test_plain_http_that_is_not_allowed_is_not_even_connected_to(world: World) -> None:
    """0.0.0.0 is this machine under a name that is not one of the loopback's."""
    with listening() as listener:
        refused = world.run(OPENMETER_URL=f"http://0.0.0.0:{listener.port}")
        assert refused.code == 78
        assert "allow_plain_http" in refused.document["error"]["message"]
        assert listener.connections == 0

        world.configure("[openmeter]\nallow_plain_http = true\n")
        allowed = world.run(OPENMETER_URL=f"http://0.0.0.0:{listener.port}")
        assert allowed.error_code == "openmeter_address"
        assert world.sandbox.openmeter_key.encode() in listener.received
