"""Which version of OpenMeter's API an address is of, and where it answers if not there."""

from meter_sync.errors import ConfigurationError
from meter_sync.net.retry import Transient
from meter_sync.openmeter_api import v1, v3
from meter_sync.openmeter_api.answers import OpenMeterRefused
from meter_sync.openmeter_api.connection import Connection
from meter_sync.openmeter_api.port import Api

_V3 = "/v3"
_BEFORE_API = (_V3, v1.PATH, "/api")
"""What may stand at the end of an address, after that of the server."""


def api_at(url: str, connection: Connection) -> Api:
    """Return the version that an address says: v3 where its path ends in `/v3`, else v1."""
    return v3.V3(connection) if url.rstrip("/").endswith(_V3) else v1.V1(connection)


async def other_address(connection: Connection) -> str | None:
    """Return the address at which OpenMeter answers on the same server, or None where it does so at none."""
    server = connection.url.rstrip("/")
    for end in _BEFORE_API:
        server = server.removesuffix(end)
    meters = {
        server: f"{server}{v1.PATH}/meters",
        f"{server}/api{_V3}": f"{server}/api{_V3}{v3.PATH}/meters",
        f"{server}{_V3}": f"{server}{_V3}{v3.PATH}/meters",
    }
    for address, path in meters.items():
        if address != connection.url and await _answers(connection, path):
            return address
    return None


async def _answers(connection: Connection, path: str) -> bool:
    """Say whether something answers there as OpenMeter does; that it wants another key is an answer too."""
    try:
        await connection.get(path, "meters")
    except ConfigurationError as error:
        return error.code == "openmeter_key"
    except (Transient, OpenMeterRefused):
        return False
    return True
