"""A TCP relay between a client and a server, to cut or to silence what the network would."""

import contextlib
import socket
import threading
from collections.abc import Iterator

CHUNK_BYTES = 2**16


class Relay:
    """Listens on `target`; while `silent`, takes bytes and passes none on."""

    def __init__(self, to: str) -> None:
        self.to, self.silent = to, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, as a pulled plug does; new ones are taken."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def close(self) -> None:
        """Cut, and take nobody any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            host, _, port = self.to.rpartition(":")
            try:
                server = socket.create_connection((host, int(port)), 1)
            except OSError:
                client.close()
                continue
            self.connections += 1
            self._pairs.append((client, server))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if not self.silent.is_set():
                    sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relay(to: str) -> Iterator[Relay]:
    """A relay to HOST:PORT until the `with` ends."""
    running = Relay(to)
    try:
        yield running
    finally:
        running.close()
