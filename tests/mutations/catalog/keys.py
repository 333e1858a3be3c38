"""Changes that give a key, or a request that carries one, to somebody else."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutant import edits

KEYS: Final = (
    *edits(
        "flux2_tool/runapi/uploads.py",
        (
            "the upload's address is not checked",
            "            check_link(upload_url, loopback_allowed=is_loopback_url(client.base_url))\n",
            "            pass\n",
        ),
        (
            "an upload follows redirects",
            "follow_redirects=False, extensions=guard",
            "follow_redirects=True, extensions=guard",
        ),
        (
            "the storage's address is not checked when connected",
            "follow_redirects=False, extensions=guard",
            "follow_redirects=False",
        ),
        (
            "forbidden headers are sent to the storage",
            "        and name.lower() not in _FORBIDDEN_HEADERS\n",
            "",
        ),
        (
            "forbidden headers are found in lower case only",
            "        and name.lower() not in _FORBIDDEN_HEADERS\n",
            "        and name not in _FORBIDDEN_HEADERS\n",
        ),
        (
            "headers of an upload may be anything",
            "        isinstance(name, str)\n        and isinstance(value, str)\n        and name.isascii()\n",
            "        name.isascii()\n",
        ),
        (
            "headers of an upload may hold line breaks",
            "        and (name + value).isprintable()\n",
            "",
        ),
        (
            "a private address is taken for an uploaded picture",
            "if not is_web_url(url) or is_private_url(url, loopback_allowed=is_loopback_url(client.base_url)):",
            "if not is_web_url(url):",
        ),
    ),
    *edits(
        "flux2_tool/tasks/acceptance.py",
        (
            "a create response's plain http link is shown",
            "read_task(body, https_only=not is_loopback_url(client.base_url))",
            "read_task(body)",
        ),
    ),
    *edits(
        "flux2_tool/tasks/poll.py",
        (
            "a poll's plain http link is shown",
            "read_task(body, https_only=not is_loopback_url(self._client.base_url))",
            "read_task(body)",
        ),
    ),
    *edits(
        "flux2_tool/tasks/follow.py",
        (
            "a status URL of another origin is polled",
            "None if task.status_url is None else self._client.same_origin_url(task.status_url)",
            "task.status_url",
        ),
    ),
    *edits(
        "flux2_tool/tasks/status.py",
        (
            "the kept response holds the key",
            "redact(self.log.last_raw, secrets=self.client.secrets)",
            "redact(self.log.last_raw)",
        ),
    ),
    *edits(
        "flux2_tool/runapi/image_links.py",
        (
            "a link to a private address is shown",
            "        and not is_private_url(link.url, loopback_allowed=not https_only)\n",
            "",
        ),
    ),
    *edits(
        "flux2_tool/runapi/client.py",
        (
            "the key goes to another origin",
            "return url if is_web_url(url) and origin_of(url) == origin_of(self.base_url) else None",
            "return url if is_web_url(url) else None",
        ),
        (
            "the key follows a redirect to another origin",
            "            if target is None:\n                where",
            '            if target is None:\n                target = response.headers["location"]\n'
            "            if target is None:\n                where",
        ),
        (
            "a response may hold the key",
            "body=masked(body, key))",
            "body=body)",
        ),
        (
            "a header may hold the key",
            "        if _masked_header(joined, key) != joined:\n",
            "        if False:\n",
        ),
        (
            "what decoding reveals of the key stays",
            "return replace(response, body=_masked_after_decoding(response.body, response.content_type, key))",
            "return response",
        ),
        (
            "a client without a key sends it",
            "            api_key=None,\n            user_agent=self._user_agent,\n",
            "            api_key=self._api_key,\n            user_agent=self._user_agent,\n",
        ),
        (
            "a lost response's description holds the key",
            "message = masked_text(str(exc), next(iter(self.secrets), None))",
            "message = str(exc)",
        ),
        (
            "tags in a title hide the key",
            'page = without_tags(body[:MAX_TITLE_PAGE_BYTES].decode("utf-8", "replace"))',
            'page = body[:MAX_TITLE_PAGE_BYTES].decode("utf-8", "replace")',
        ),
    ),
    *edits(
        "flux2_tool/_redaction.py",
        (
            "characters without a mark hide the key",
            "return text if text.isascii() else without_ignorable(text)",
            "return text",
        ),
        (
            'a secret after ";" in a query is kept',
            '    if ";" in pair:\n        return ";".join(map(_without_secret_value, pair.split(";")))\n',
            "",
        ),
        (
            "a URL's fragment is kept",
            '    address, hash_mark, _ = url.partition("#")\n',
            '    address, hash_mark = url, ""\n',
        ),
        (
            "a secret in a field's name is kept",
            '            _without_secrets(str(name), secrets): "…"\n',
            '            str(name): "…"\n',
        ),
        (
            "a field named like a secret is kept",
            "            if isinstance(item, str) and _SECRET_FIELD.search(str(name))\n",
            "            if False\n",
        ),
        (
            "a secret in a text is kept",
            "        text = _masked_text(text, secret)\n",
            "        pass\n",
        ),
        (
            "the key in base64url is not masked",
            'form.translate(_URL_ALPHABET), form.replace(b"/", b"\\\\/")]',
            'form.replace(b"/", b"\\\\/")]',
        ),
        (
            "the key in percent-encoded base64 is not masked",
            '            forms.append(form.replace(b"+", b"%2B").replace(b"/", b"%2F"))\n',
            "",
        ),
        (
            "a key in a list is not found",
            "        elif isinstance(one, list):\n            left.extend(one)\n",
            "",
        ),
        (
            "a key in hexadecimal is not masked",
            "forms = [data, data.hex().encode(), data.hex().upper().encode()]",
            "forms = [data]",
        ),
        (
            "a key whose characters are escaped is not masked",
            "        data = _escaped(key).sub(MASK, data)\n",
            "        pass\n",
        ),
        (
            "a key that invisible characters split is not masked",
            "return _masked_text(seen, key) if seen is not found and _holds(seen, key) else found",
            "return found",
        ),
        (
            "a signature in a link is kept",
            'return f"{name}{equals}…" if equals and _SECRET_PARAMETER.search(unquote(name)) else pair',
            "return pair",
        ),
    ),
    *edits(
        "flux2_tool/runapi/webhooks.py",
        (
            "a signed webhook without an id is taken",
            "    if not 0 < len(event_id) <= MAX_EVENT_ID_CHARS or not event_id.isprintable():\n",
            "    if not len(event_id) <= MAX_EVENT_ID_CHARS or not event_id.isprintable():\n",
        ),
        (
            "a signed webhook with a long id is taken",
            "    if not 0 < len(event_id) <= MAX_EVENT_ID_CHARS or not event_id.isprintable():\n",
            "    if not event_id or not event_id.isprintable():\n",
        ),
        (
            "a signed webhook with control characters in its id is taken",
            "    if not 0 < len(event_id) <= MAX_EVENT_ID_CHARS or not event_id.isprintable():\n",
            "    if not 0 < len(event_id) <= MAX_EVENT_ID_CHARS:\n",
        ),
        (
            "a signed webhook whose body is no JSON raises another error",
            '        raise WebhookRefusedError(f"its body is {exc}") from exc\n',
            "        raise\n",
        ),
        (
            "a webhook's signature is not checked",
            '    if not hmac.compare_digest(expected, signature.encode("utf-8", "replace")):\n',
            "    if False:\n",
        ),
        (
            "an old webhook is taken",
            "    if not abs(now - int(timestamp)) <= tolerance_s:",
            "    if not int(timestamp) - now <= tolerance_s:",
        ),
        (
            "a webhook from the future is taken",
            "    if not abs(now - int(timestamp)) <= tolerance_s:",
            "    if not now - int(timestamp) <= tolerance_s:",
        ),
    ),
    *edits(
        "flux2_tool/_net.py",
        (
            "the key is sent over plain http",
            '    parts = _plain_url(text, example="https://runapi.ai")\n'
            '    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):\n',
            '    parts = _plain_url(text, example="https://runapi.ai")\n    if False:\n',
        ),
        (
            "another port is the same origin",
            '    return parts.scheme, (parts.hostname or "").lower(), port\n',
            '    return parts.scheme, (parts.hostname or "").lower(), port and 0\n',
        ),
        (
            "an address in other digits is public",
            "    if _NUMBER.fullmatch(labels[-1]):\n",
            "    if False:\n",
        ),
        (
            "an IPv6 address that contains a private one is public",
            "            is_isatap = (int(address) >> 32) & 0xFFFFFFFF & ~_ISATAP_FLAGS == _ISATAP\n",
            "            is_isatap = False\n",
        ),
    ),
    *edits(
        "flux2_tool/images/download.py",
        (
            "a picture is fetched over plain http",
            '    if parts.scheme != "https":\n        raise DownloadError(f"{name} is not https")\n',
            "",
        ),
        (
            "a picture is fetched from a private address",
            "    if is_private_url(url, loopback_allowed=False):\n        raise _private(name)\n",
            "",
        ),
        (
            "a name that leads to a private address is connected to",
            "        if is_private_address(address) and not (loopback_allowed and is_loopback(address)):\n",
            "        if False:\n",
        ),
        (
            "a redirect's link is not checked",
            "    for _ in range(MAX_REDIRECTS + 1):\n"
            "        check_link(url, loopback_allowed=loopback_allowed, name=name)\n",
            "    check_link(url, loopback_allowed=loopback_allowed)\n    for _ in range(MAX_REDIRECTS + 1):\n",
        ),
    ),
    *edits(
        "flux2_tool/credentials.py",
        (
            "a placeholder is taken for a key",
            "    if _PLACEHOLDER.fullmatch(key):\n",
            "    if False:\n",
        ),
        (
            "another account's key is used where the variable is empty",
            "        if variable is not None:\n            # An operator",
            "        if False:\n            # An operator",
        ),
        (
            "the fingerprint is the key's beginning",
            "return hashlib.sha256(key.encode()).hexdigest()[:16]",
            "return key[:16]",
        ),
        (
            "a broken file's error holds the key",
            "        # Without the cause: a JSON error carries the whole text, which holds the key.\n"
            "        found, wrong = None, _place_of(exc)\n",
            "        raise ConfigurationError(f'{path} cannot be read: {data!r}') from exc\n",
        ),
    ),
)
