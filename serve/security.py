"""Who is calling: the name under which streams are counted and logged."""

from typing import Any, Protocol
from urllib.parse import unquote

from serve.tokens import TokenFile

LONGEST = 128  # characters of a name; a certificate's can be any length


class Caller(Protocol):
    """What is asked of a call's context."""

    def peer(self) -> str: ...

    def auth_context(self) -> Any: ...

    def invocation_metadata(self) -> Any: ...


def client_of(context: Caller, tokens: TokenFile | None = None) -> str:
    """`token:SUBJECT`, else `certificate:NAME`, else the peer's address without its port.

    Behind a balancer all addresses are the balancer's: there tokens or certificates tell clients apart. Raises
    TokenInvalid for a token that was revoked since the call came in.
    """
    if tokens is not None:
        return f"token:{tokens.subject_of(context.invocation_metadata() or ())}"[:LONGEST]
    proof = context.auth_context() or {}
    for kind in ("x509_common_name", "x509_subject_alternative_name"):
        names = proof.get(kind)
        if names:
            return f"certificate:{names[0].decode('utf-8', 'replace')}"[:LONGEST]
    return address_of(context.peer())


def address_of(peer: str) -> str:
    """gRPC's name of a peer, `ipv4:10.0.0.7:4711` or `ipv6:%5B::1%5D:4711`, as an address alone."""
    kind, _, rest = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return peer[:LONGEST]  # a Unix socket has no port
    return rest.rpartition(":")[0].strip("[]")
