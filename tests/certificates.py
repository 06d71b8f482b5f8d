"""A throwaway certificate authority, made with the openssl program once for all tests."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates in a folder."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self.folder, self.certificate = folder, folder / "ca.pem"
        self._key = folder / "ca.key"
        folder.mkdir(parents=True, exist_ok=True)
        run("req", "-x509", *self._new_key(self._key), "-out", self.certificate, "-days", "2", "-subj", f"/CN={name}")

    def pair(self, name: str, days: int = 1) -> Pair:
        """A certificate for `name`, good for localhost and 127.0.0.1 too."""
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        run("req", *self._new_key(pair.key), "-out", request, "-subj", f"/CN={name}")
        extensions.write_text(f"subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1\n")
        signed = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", str(days))
        run("x509", "-req", "-in", request, *signed, "-extfile", extensions, "-out", pair.certificate)
        return pair

    @staticmethod
    def _new_key(file: Path) -> tuple[str | Path, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file)


def run(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program is not here: TLS was NOT tested; Debian has it in `openssl`")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    return authority.pair("maskstream.test")


@pytest.fixture(scope="session")
def client_pair(authority: Authority) -> Pair:
    return authority.pair("gate-camera")
