"""The object store beside the service: presigned URLs, generated pictures, uploaded files.

It looks like S3's presigned GET and PUT: long signed query strings, XML errors, 403 once expired, and 400 for a
request that carries an Authorization header besides its signature.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from flux2_tool.sandbox.tasks import Task

IMAGES_PATH = "/storage/"
UPLOADS_PATH = "/storage/uploads/"
FILES_PATH = "/storage/files/"


@dataclass(slots=True, kw_only=True)
class StoredFile:
    """A file somebody uploaded. `content` is None until the bytes have arrived."""

    signed_id: str
    filename: str
    byte_size: int
    md5_base64: str
    mime_type: str
    key_fingerprint: str
    content: bytes | None = None
    confirmed_at: float | None = None
    size_px: tuple[int, int] | None = None

    @property
    def path(self) -> str:
        """Where it can be fetched, given a signature."""
        return f"{FILES_PATH}{self.signed_id}/{quote(self.filename)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistentFile:
    """A file that is kept until it is deleted, and fetched with the key."""

    id: str
    filename: str
    purpose: str
    content: bytes
    mime_type: str
    created_at: float
    key_fingerprint: str


@dataclass(slots=True)
class Storage:
    """What is stored, and the secret that signs addresses."""

    secret: bytes
    pictures: dict[str, Task] = field(default_factory=dict)
    files: dict[str, StoredFile] = field(default_factory=dict)
    persistent: dict[str, PersistentFile] = field(default_factory=dict)

    def presign(self, method: str, path: str, *, at: float, life_s: int) -> str:
        """A path with a query that allows one method on it from `at` on, for `life_s` seconds."""
        stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"SANDBOX/{stamp[:8]}/auto/s3/aws4_request",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(life_s),
            "X-Amz-SignedHeaders": "host",
        }
        query["X-Amz-Signature"] = self._signature(method, path, query)
        return f"{path}?{urlencode(query)}"

    def refusal(self, method: str, path: str, query: Mapping[str, str], *, now: float) -> tuple[int, str, str] | None:
        """Why a signed address is not good now: status, S3 code and message; None when it is."""
        given = dict(query)
        signature = given.pop("X-Amz-Signature", "")
        if not signature:
            return 403, "AccessDenied", "Access Denied"
        if not hmac.compare_digest(signature, self._signature(method, path, given)):
            return 403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature"
        signed_at = datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if now >= signed_at + int(given["X-Amz-Expires"]):
            return 403, "AccessDenied", "Request has expired"
        return None

    def size_of_url(self, url: str) -> tuple[int, int] | None:
        """Pixel size of a picture of ours, whatever base is in front of its address."""
        found = self.find_url(url)
        return found.size_px if found else None

    def find_url(self, url: str) -> Task | StoredFile | None:
        """What is stored at an address, whatever base is in front of it."""
        path = urlsplit(url).path
        return self.find(path[max(0, path.find(IMAGES_PATH)) :])

    def find(self, path: str) -> Task | StoredFile | None:
        """What is stored at a path, if anything is."""
        if path.startswith(FILES_PATH):
            return self.files.get(path.removeprefix(FILES_PATH).partition("/")[0])
        return self.pictures.get(path.removeprefix(IMAGES_PATH).removesuffix(".png"))

    def _signature(self, method: str, path: str, query: Mapping[str, str]) -> str:
        text = "\n".join([method, unquote(path), *(f"{name}={query[name]}" for name in sorted(query))])
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()


def query_of(raw_query: bytes) -> dict[str, str]:
    """A query string's fields; the last one of a name counts."""
    return dict(parse_qsl(raw_query.decode("latin-1"), keep_blank_values=True))
