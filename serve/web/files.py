"""The page's files, read once and kept: a few hundred kilobytes, and no path of a request ever reaches the disk."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.exposition import gzip_accepted
from starlette.requests import Request
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class File:
    """One file; `etag` changes when it does."""

    media_type: str
    content: bytes
    compressed: bytes
    etag: str

    def respond(self, request: Request) -> Response:
        """The file, or word that the browser has it. It may be kept, but is asked for anew before it is used: after
        an update of the server no browser goes on with old ones.
        """
        headers = {"etag": self.etag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if gzip_accepted(request.headers.get("accept-encoding", "")):
            headers["content-encoding"] = "gzip"
            return Response(self.compressed, headers=headers, media_type=self.media_type)
        return Response(self.content, headers=headers, media_type=self.media_type)


def read_files(folder: Path = STATIC) -> dict[str, File]:
    """By name relative to the folder; files of a type that no page needs are left out."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _TYPES and path.is_file())
    return {path.relative_to(folder).as_posix(): _read(path) for path in paths}


def _read(path: Path) -> File:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    return File(_TYPES[path.suffix], content, gzip.compress(content, mtime=0), etag)
