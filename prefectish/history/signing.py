"""Signatures of what is written into the database for others to carry out.

Who can write into the database could have an agent run code. With a key, ``PREFECTISH_HMAC_KEY`` or `hmac_key` of
``config.toml``, what an agent or a driver carries out must be signed with the key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from prefectish import config


class Signer:
    """Signs facts, and says why others' signatures do not hold.

    Parameters
    ----------
    key
        Default: the setting `hmac_key`; without one nothing is signed, and nothing has to be.
    """

    def __init__(self, key: bytes | str | None = None) -> None:
        found = config.setting("hmac_key") if key is None else key
        self._key = found.encode() if isinstance(found, str) else found

    @property
    def has_key(self) -> bool:
        """Whether there is a key."""
        return bool(self._key)

    def sign(self, facts: Mapping[str, Any]) -> str | None:
        """Return the signature of facts; None without a key."""
        if not self._key:
            return None
        text = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()

    def refusal(self, facts: Mapping[str, Any], signature: str | None) -> str | None:
        """Return why facts are not to be trusted; None if they are."""
        own = self.sign(facts)
        if own is None:
            return None
        if signature is None:
            return "it is not signed, and this process has a key (PREFECTISH_HMAC_KEY) by which it must be"
        return None if hmac.compare_digest(own, signature) else "its signature does not fit: another key, or altered"
