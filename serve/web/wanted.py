"""Whether there is a page: asked before anything of it is imported."""

from importlib.util import find_spec

from serve.config import ServeConfig

_PACKAGES = ("starlette", "uvicorn", "websockets")  # the extra [web]


def why_no_page(config: ServeConfig) -> str | None:
    """What keeps the page away, in a sentence; None when it can be shown."""
    if not config.web:
        return "the page is switched off (`web = false` or --no-web)"
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        return f"the page needs {', '.join(missing)}: pip install 'maskstream[web]'"
    if config.tls.client_ca is not None and config.auth.tokens is None:
        return "there is no page where clients must show certificates: it would let them in without; use tokens"
    return None
