"""A Telegram for OpenClaw's own Telegram channel: the part of the Bot API that a bot in a group chat needs.

People post through `Telegram.post`; what the bot sends is kept. Standard library only.
Source: https://core.telegram.org/bots/api
"""

from __future__ import annotations

import contextlib
import email
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

BOT_TOKEN = "1:a-bot-of-these-tests"
GROUP, OTHER_GROUP = -1001, -1002
LONG_POLL_S = 20.0
_BOT = {"id": 1, "is_bot": True, "first_name": "Claw", "username": "claw_bot", "can_join_groups": True,
        "can_read_all_group_messages": True, "supports_inline_queries": False}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One call of the bot that put something into the chat."""

    method: str
    fields: Mapping[str, Any]
    at: float
    """When it arrived, in seconds since 1970."""
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The message's text or a picture's caption."""
        of_album = [item.get("caption", "") for item in json.loads(self.fields.get("media", "[]"))]
        return str(self.fields.get("text") or self.fields.get("caption") or "".join(of_album))


@dataclass(slots=True)
class Telegram:
    """Two groups with the bot in them."""

    base_url: str = ""
    sent: list[Sent] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    """Files that people have sent, by the path under which the bot fetches them."""
    stopped: bool = False
    _updates: list[dict[str, Any]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _next_message: int = 100

    def channel(self, *, owner: int) -> dict[str, Any]:
        """Return `channels.telegram` of OpenClaw's config: everybody in the group may talk to the bot."""
        return {
            "enabled": True,
            "botToken": BOT_TOKEN,
            "apiRoot": self.base_url,
            "dmPolicy": "allowlist",
            "allowFrom": [str(owner)],
            "groupPolicy": "open",
            "groups": {str(group): {"requireMention": False} for group in (GROUP, OTHER_GROUP)},
            "joinIntro": False,
            "streaming": {"mode": "off"},
            "commands": {"native": False, "nativeSkills": False},
        }

    def post(self, text: str, *, sender: int, group: int = GROUP, photo: bytes | None = None) -> None:
        """Have a person of a group write a message, with a photo if given."""
        with self._changed:
            self._next_message += 1
            person = {"id": sender, "is_bot": False, "first_name": f"Person {sender}"}
            message: dict[str, Any] = {
                "message_id": self._next_message, "date": int(time.time()), "chat": _chat(group), "from": person,
            }  # fmt: skip
            if photo is None:
                message["text"] = text
            else:
                name = f"photos/file_{self._next_message}.jpg"
                self.files[name] = photo
                size = {"file_id": name, "file_unique_id": name, "width": 64, "height": 64, "file_size": len(photo)}
                message |= {"caption": text, "photo": [size]}
            self._updates.append({"update_id": self._next_message, "message": message})
            self._changed.notify_all()

    def stop(self) -> None:
        """Let every long poll answer."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def texts(self) -> list[str]:
        """Return what the bot has said, oldest first."""
        with self._changed:
            return [sent.text for sent in self.sent if sent.text]

    def answer(self, method: str, fields: Mapping[str, Any], files: Mapping[str, bytes]) -> Any:
        """Return the `result` of one Bot API call."""
        if method == "getUpdates":
            return self._wait_for_updates(int(fields.get("offset") or 0), float(fields.get("timeout") or 0))
        if method == "getMe":
            return _BOT
        if method == "getChat":
            return _chat(int(fields["chat_id"]))
        if method == "getChatMember":
            return {"status": "administrator", "user": _BOT}
        if method == "getWebhookInfo":
            return {"url": "", "has_custom_certificate": False, "pending_update_count": 0}
        if method == "getFile":
            name = str(fields["file_id"])
            return {"file_id": name, "file_unique_id": name, "file_path": name, "file_size": len(self.files[name])}
        if method.startswith(("sendMessage", "sendPhoto", "sendDocument", "editMessage", "sendMediaGroup")):
            with self._changed:
                self.sent.append(Sent(method=method, fields=dict(fields), at=time.time(), files=dict(files)))
                if method == "sendMediaGroup":  # an album, of which each picture is a message
                    return [self._message(fields) for _ in files]
                return self._message(fields)
        return True

    def _message(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._next_message += 1
        return {
            "message_id": self._next_message, "date": int(time.time()), "from": _BOT,
            "chat": _chat(int(fields["chat_id"])), "text": str(fields.get("text", "")),
        }  # fmt: skip

    def _wait_for_updates(self, offset: int, timeout_s: float) -> list[dict[str, Any]]:
        def fresh() -> list[dict[str, Any]]:
            return [update for update in self._updates if update["update_id"] >= offset]

        with self._changed:
            self._changed.wait_for(lambda: fresh() or self.stopped, timeout=min(timeout_s, LONG_POLL_S))
            return fresh()


def _chat(group: int) -> dict[str, Any]:
    return {"id": group, "type": "supergroup", "title": f"Friends {group}"}


@contextlib.contextmanager
def running_telegram() -> Iterator[Telegram]:
    """Serve a Telegram on a free loopback port until the block ends."""
    telegram = Telegram()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(telegram))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    telegram.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield telegram
    finally:
        telegram.stop()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(telegram: Telegram) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") != "chunked":
                self._serve(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                return
            body = bytearray()
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            self._serve(bytes(body))

        def _serve(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            head = f"/file/bot{BOT_TOKEN}/"
            if path.startswith(head):
                self._send(telegram.files[path.removeprefix(head)], "image/jpeg")
                return
            fields, files = _fields(self.headers.get("Content-Type", ""), body)
            fields = {name: values[-1] for name, values in parse_qs(query).items()} | fields
            result = telegram.answer(path.rsplit("/", 1)[1], fields, files)
            self._send(json.dumps({"ok": True, "result": result}).encode(), "application/json")

        def _send(self, data: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            # A stopped gateway leaves its long poll behind.
            with contextlib.suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(data)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Keep the test output quiet."""

    return Handler


def _fields(content_type: str, body: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return a call's fields and files, as JSON or as a form."""
    if content_type.startswith("multipart/"):
        form = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
        fields: dict[str, Any] = {}
        files: dict[str, bytes] = {}
        for part in form.get_payload():
            assert isinstance(part, email.message.Message)
            name = str(part.get_param("name", header="content-disposition"))
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            if part.get_filename():
                files[name] = data
            else:
                fields[name] = data.decode()
        return fields, files
    return (json.loads(body) if body else {}), {}
