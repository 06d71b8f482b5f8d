"""A network camera on 127.0.0.1 that a test can silence, kill and start again on its port: MJPEG or MPEG-TS over HTTP.

Each picture is one even shade, so that a test knows which of them it got: shade = 2 * number, from 0 again after 100.
"""

import io
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np

from maskstream.pictures import encode_jpeg

SHADES = 100


def shade(number: int) -> int:
    return 2 * (number % SHADES)


def picture(number: int, size: tuple[int, int]) -> np.ndarray:
    return np.full((*size, 3), shade(number), np.uint8)


def transport_stream(count: int, size: tuple[int, int], rate: int = 25) -> bytes:
    """MPEG-2 video in an MPEG transport stream, a key frame every fifth picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=rate, options={"g": "5", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


class Camera:
    """Serves pictures for ever at /mjpeg, `rate` a second, and a short transport stream at /ts."""

    def __init__(self, size: tuple[int, int] = (48, 64), rate: float = 50.0) -> None:
        self.size, self.rate = size, rate
        self.sent = 0
        self.requests: list[str] = []
        self._silent = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._sockets: list[socket.socket] = []
        self.port = 0
        self.start()

    def start(self) -> None:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._sockets.append(self.connection)
                camera.requests.append(self.path)
                kind = "video/mp2t" if "/ts" in self.path else "multipart/x-mixed-replace; boundary=next"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                for piece in camera._pieces(self.path):
                    try:
                        self.wfile.write(piece)
                    except OSError:
                        return

            def log_message(self, *words: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._silent.clear()
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Pull the plug: connections break, nobody listens."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in self._sockets:
            with_reset = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, with_reset)
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._sockets.clear()

    def silence(self) -> None:
        """Keep the connections open and send nothing more on them."""
        self._silent.set()

    def url(self, path: str = "/mjpeg", login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}{path}"

    def _pieces(self, path: str) -> Iterator[bytes]:
        server = self._server
        if "/ts" in path:
            stream = bytearray(transport_stream(100, self.size))
            if "damaged" in path:
                noise = np.random.default_rng(1).integers(0, 256, len(stream), np.uint8)
                for start in range(len(stream) // 4, len(stream), 3 * 188):
                    stream[start : start + 100] = noise[start : start + 100].tobytes()
            yield bytes(stream)
            return
        while self._server is server and server is not None:
            while self._silent.is_set() and self._server is server:
                time.sleep(0.01)
            jpeg = encode_jpeg(picture(self.sent, self.size))
            self.sent += 1
            yield b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
            time.sleep(1 / self.rate)
