"""A network camera that speaks RTSP on 127.0.0.1: as much of it as FFmpeg asks for, with a password, over TCP.

It plays a transport stream (RTP payload type 33, RFC 2250) for ever, seven packets of it at a time.
"""

import base64
import itertools
import socketserver
import struct
import threading
import time

from cameras import transport_stream

RTP_CLOCK = 90_000
_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
_CHUNK = 7 * 188


class RtspCamera:
    """Plays for whoever gives `user` and `password`."""

    def __init__(self, user: str, password: str, size: tuple[int, int] = (48, 64)) -> None:
        self._login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._stream = transport_stream(100, size)
        self.plays = self.refusals = 0
        self.playing = threading.Event()
        self.playing.set()
        self.start()

    def start(self, port: int = 0) -> None:
        camera = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    while camera._answer(self.rfile, self.wfile):
                        pass
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.playing.clear()  # connections end
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, requests, answers) -> bool:
        """One request; False when the connection is over."""
        lines = list(itertools.takewhile(bool, (line.decode().strip() for line in iter(requests.readline, b""))))
        if not lines:
            return False
        method = lines[0].partition(" ")[0]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        reply = {"CSeq": headers["cseq"]}
        status, body = "200 OK", ""
        if method == "OPTIONS":
            reply["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
        elif headers.get("authorization") != self._login:
            self.refusals += 1
            status, reply["WWW-Authenticate"] = "401 Unauthorized", 'Basic realm="camera"'
        elif method == "DESCRIBE":
            body, reply["Content-Type"] = _SDP, "application/sdp"
        elif method == "SETUP":
            reply |= {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1", "Session": "1"}
        head = "".join(f"{name}: {value}\r\n" for name, value in {**reply, "Content-Length": len(body)}.items())
        answers.write(f"RTSP/1.0 {status}\r\n{head}\r\n{body}".encode())
        if method == "PLAY" and status == "200 OK":
            self.plays += 1
            self._play(answers)
            return False
        return method != "TEARDOWN"

    def _play(self, answers) -> None:
        chunks = [self._stream[at : at + _CHUNK] for at in range(0, len(self._stream), _CHUNK)]
        for number, chunk in enumerate(itertools.cycle(chunks)):
            if not self.playing.is_set():
                return
            stamp = int(time.monotonic() * RTP_CLOCK) & 0xFFFFFFFF
            packet = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, stamp, 1) + chunk
            answers.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
            time.sleep(4.0 / len(chunks))  # a hundred pictures, 25 a second
