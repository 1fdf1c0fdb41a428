"""A server whose certificate nobody vouches for, or one that only listens: what each was sent is kept."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("self_signed.pem")
"""A key and its certificate for `localhost`, valid from 2020 to 2119 and known to no authority."""


@dataclass
class Listener:
    """What listens on loopback: how often it was connected to, and what was sent, once decrypted."""

    port: int
    connections: int = 0
    received: bytes = b""
    guard: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def listening(certificate: Path | None = None) -> Iterator[Listener]:
    """Listen, with TLS if there is a certificate; every request is answered with 404."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
    if context and certificate:
        context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = Listener(server.getsockname()[1])
        thread = threading.Thread(target=_accept, args=(server, context, listener), daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(server: socket.socket, context: ssl.SSLContext | None, listener: Listener) -> None:
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            listener.connections += 1
            with connection, suppress(OSError):
                connection.settimeout(10)
                _answer(context.wrap_socket(connection, server_side=True) if context else connection, listener)


def _answer(connection: socket.socket, listener: Listener) -> None:
    with connection:
        listener.received += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
