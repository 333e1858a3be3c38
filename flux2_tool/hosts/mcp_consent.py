"""The state of a question to an MCP host's user, which by the protocol of 2026 travels to the client and back.

Whatever comes back is somebody else's until its seal says otherwise: an HMAC with a key that only this process has. So
a state that was made up, changed, or issued before a restart, when it was not yet noted as used, agrees to nothing.
Source: the MCP specification, 2026-07-28, basic/utilities, multi round-trip requests: a server must protect a state
that it relies on. RFC 2104.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict
from typing import Final

from flux2_tool.context import Approval

KEY_BYTES: Final = 32
_SEPARATOR: Final = "."


class ConsentStates:
    """Makes the states of one process's questions, and reads them again.

    Args:
        key: Random bytes that nobody else knows.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def state_of(self, approval: Approval) -> str:
        """Return the state of a question: what its approval is, sealed."""
        text = json.dumps(asdict(approval))
        return f"{self._seal(text)}{_SEPARATOR}{text}"

    def approval_of(self, state: str) -> Approval | None:
        """Return the approval of a question that this process has asked, None for any other state."""
        seal, _, text = state.partition(_SEPARATOR)
        # Bytes, because text that is compared in constant time must be ASCII. What is sealed is our own JSON.
        if not hmac.compare_digest(seal.encode("utf-8", "replace"), self._seal(text).encode()):
            return None
        return Approval(**json.loads(text))

    def _seal(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
