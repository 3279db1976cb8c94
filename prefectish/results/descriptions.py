"""The place of a store in words, for the history: another process can open it again and read results.

Only places that hold no secret are described: a folder, or a URL without a password and without options.
"""

from __future__ import annotations

import json
from typing import Any

from prefectish.results.base import Result
from prefectish.results.folder import Folder
from prefectish.results.remote import Remote


def described(store: Result | None) -> str | None:
    """Return a store as JSON; None for no store, and for one that only its own process can open."""
    backend = None if store is None else store.store
    if store is None or store._format not in ("pickle", "json"):
        return None
    if isinstance(backend, Folder):
        place = {"folder": backend.root}
    elif isinstance(backend, Remote) and not backend.options and "@" not in backend.url:
        place = {"url": backend.url}
    else:
        return None
    facts = {"serializer": store._format, "compression": store.compression, "signed": store._hmac_key is not None}
    return json.dumps({**place, **facts})


def opened(description: str, hmac_key: Any = None) -> Result:
    """Return the store that was described.

    Parameters
    ----------
    hmac_key
        Key of a store whose files are signed; with one, files without a signature are refused.

    Raises
    ------
    ValueError
        Its files are signed, and there is no key.
    """
    facts = json.loads(description)
    if facts["signed"] and hmac_key is None:
        raise ValueError("its files are signed, and there is no key: set PREFECTISH_HMAC_KEY")
    backend = Folder(facts["folder"]) if "folder" in facts else Remote(facts["url"], {})
    return Result(backend, serializer=facts["serializer"], compression=facts["compression"], hmac_key=hmac_key)
