"""Signed image URLs, the pictures behind them, uploads and prices."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from flux2_tool.sandbox.fonts import escaped, find_chinese_font, font_of, lines_of, printable
from flux2_tool.sandbox.pictures import png_of


def opened(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def test_an_image_url_looks_like_presigned_storage_and_stays_the_same(call: Any) -> None:
    """Hosts mask long signatures in what a model reads, so tests need real ones."""
    task_id = call.task()
    call.clock.now += 10
    first = call.poll(task_id).json()["images"][0]["url"]
    call.clock.now += 100
    second = call.poll(task_id).json()["images"][0]["url"]

    query = {name: values[0] for name, values in parse_qs(urlsplit(first).query).items()}
    assert first == second
    assert urlsplit(first).path.endswith(".png")
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Expires"] == "604800"
    assert len(bytes.fromhex(query["X-Amz-Signature"])) == 32


@pytest.mark.parametrize(
    ("arguments", "size_px"),
    [
        ({}, (1024, 1024)),
        ({"aspect_ratio": "16:9"}, (1360, 768)),
        ({"aspect_ratio": "2:3", "output_resolution": "2k"}, (1664, 2496)),
    ],
)
def test_the_picture_is_a_png_of_the_requested_size(
    call: Any, arguments: dict[str, str], size_px: tuple[int, int]
) -> None:
    """About 1 megapixel at 1k and 4 at 2k."""
    answer = call.request("GET", call.image(**arguments), key=None)

    assert answer.headers["content-type"] == "image/png"
    assert opened(answer.content).format == "PNG"
    assert opened(answer.content).size == size_px


def test_an_automatic_ratio_follows_a_known_source(call: Any) -> None:
    """A remix of a wide picture is wide; of an unknown one, square."""
    wide = call.image(aspect_ratio="16:9")
    ids = [
        call.task(path="/v1/remix_image", aspect_ratio="auto", source_image_urls=[url])
        for url in (wide, "https://example.com/x.png")
    ]

    assert [call.sandbox.ledger.tasks[task_id].size_px for task_id in ids] == [(1360, 768), (1024, 1024)]


def test_an_image_url_expires_after_seven_days(call: Any) -> None:
    """The longest life of a presigned URL, and the service's."""
    url = call.image()
    signed_at = next(iter(call.sandbox.ledger.tasks.values())).finish_at
    call.clock.now = signed_at + 7 * 24 * 3600 - 2
    alive = call.request("GET", url, key=None)
    call.clock.now += 2
    dead = call.request("GET", url, key=None)

    assert (alive.status_code, dead.status_code) == (200, 403)
    assert "expired" in dead.text


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda url: url[:-8] + "00000000", id="another signature"),
        pytest.param(lambda url: url.replace("X-Amz-Expires=604800", "X-Amz-Expires=604801"), id="a longer life"),
        pytest.param(lambda url: url.partition("?")[0], id="no signature"),
    ],
)
def test_a_corrupted_signature_is_refused(call: Any, spoil: Any) -> None:
    """A client that cuts or re-encodes the query must notice here, not in production."""
    assert call.request("GET", spoil(call.image()), key=None).status_code == 403


def test_storage_refuses_and_records_a_request_that_carries_the_key(call: Any) -> None:
    """The key must never go to an image host."""
    url = call.image()

    answer = call.request("GET", url, key="sk-test")

    assert answer.status_code == 400
    assert len(call.sandbox.ledger.authorization_leaks) == 1
    assert call.sandbox.ledger.downloads[-1].status == 400


def test_a_key_in_a_create_body_is_recorded_as_a_leak(call: Any) -> None:
    """The same for any other place of a request."""
    call.create(prompt="please use sk-test for this")

    assert [leak.where for leak in call.sandbox.ledger.authorization_leaks] == ["create body"]


def test_image_urls_can_have_another_base(call_with: Any) -> None:
    """Hosts attach public https URLs only."""
    call = call_with(image_url_base="https://images.example.com/")

    url = call.image()

    assert url.startswith("https://images.example.com/storage/img_")
    assert call.request("GET", url.replace("https://images.example.com", ""), key=None).status_code == 200


def test_an_unfinished_picture_cannot_be_fetched(call: Any) -> None:
    """There is nothing behind its address yet."""
    task = call.sandbox.ledger.tasks[call.task()]
    url = call.sandbox.storage.presign("GET", f"/storage/{task.image_id}.png", at=call.clock.now, life_s=60)

    assert call.request("GET", url, key=None).status_code == 404


def test_equal_prompts_give_equal_pictures_and_others_do_not() -> None:
    """Two sessions must be able to tell whose picture they got."""
    one, again, other = (png_of(prompt, "m", (256, 256)) for prompt in ("a fox", "a fox", "a dog"))

    assert one == again
    assert one != other


def test_plain_pictures_have_the_right_size() -> None:
    """Benchmarks spend no time on drawing."""
    assert opened(png_of("a fox", "m", (1360, 768), drawn=False)).size == (1360, 768)


def test_chinese_is_drawn_with_its_own_glyphs() -> None:
    """The extra `sandbox` brings a font, whatever the system has."""
    assert printable("一只红狐狸\n在雪里") == "一只红狐狸 在雪里"
    assert bytes(font_of(24).getmask("红")) != bytes(font_of(24).getmask("狐"))


def test_without_a_chinese_font_text_is_shown_as_escapes(tmp_path: Path) -> None:
    """Better than a row of empty boxes."""
    assert find_chinese_font("no_such_font_package", [str(tmp_path), str(tmp_path / "missing")]) is None
    assert escaped("fox 狐") == "fox \\u72d0"


def test_a_system_font_is_found_by_its_file_name(tmp_path: Path) -> None:
    """The second choice, where the font package is missing."""
    font = tmp_path / "wqy" / "wqy-microhei.ttc"
    font.parent.mkdir()
    font.write_bytes(b"")

    assert find_chinese_font("no_such_font_package", [str(tmp_path)]) == (font, 0)


def test_lines_break_between_words_and_between_chinese_characters() -> None:
    """Chinese has no spaces, and its punctuation never begins a line."""
    font = font_of(20)
    english = lines_of("the quick brown fox jumps over the lazy dog", font, 120)
    chinese = lines_of("柔和的晨光，胶片质感；远处的山峦。", font, 104)

    assert " ".join(english) == "the quick brown fox jumps over the lazy dog"
    assert "".join(chinese) == "柔和的晨光，胶片质感；远处的山峦。"
    assert len(english) > 2
    assert len(chinese) > 2
    assert all(line[0] not in "，；。" for line in chinese)
    assert all(font.getlength(line) <= 120 for line in [*english, *chinese])


def upload(call: Any, announced: bytes, **changes: Any) -> Any:
    """Prepare a file and PUT bytes to it; `changes` override the request's parts."""
    checksum = base64.b64encode(hashlib.md5(announced, usedforsecurity=False).digest()).decode()
    asked = {"filename": "狐狸 1.png", "byte_size": len(announced), "checksum": checksum}
    prepared = call.request("POST", "/api/v1/files/prepare", json=asked).json()
    sent = {"content": announced, "headers": prepared["headers"], "key": None, **changes}
    return prepared, call.request("PUT", prepared["upload_url"], **sent)


def png(size_px: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size_px, "teal").save(out, "PNG")
    return out.getvalue()


def test_a_file_is_uploaded_in_three_steps_and_lives_one_hour(call: Any) -> None:
    """Prepare, PUT without the key, confirm."""
    content = png((1600, 900))
    prepared, put = upload(call, content)
    file = call.request("POST", "/api/v1/files/confirm", json={"signed_id": prepared["signed_id"]}).json()
    alive = call.request("GET", file["url"], key=None)
    task = call.sandbox.ledger.tasks[
        call.task(path="/v1/remix_image", aspect_ratio="auto", source_image_urls=[file["url"]])
    ]
    call.clock.now += 3600
    dead = call.request("GET", file["url"], key=None)

    assert put.status_code == 200
    assert file["file_name"] == "狐狸 1.png"
    assert (file["size_bytes"], file["mime_type"]) == (len(content), "image/png")
    assert (file["created_at"], file["expires_at"]) == ("2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z")
    assert alive.content == content
    assert task.size_px == (1360, 768)
    assert dead.status_code == 403


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        pytest.param({"key": "sk-test"}, 400, id="with the API key"),
        pytest.param({"content": b"other bytes"}, 400, id="other bytes"),
        pytest.param({"headers": {}}, 403, id="without the issued headers"),
    ],
)
def test_a_wrong_upload_is_refused(call: Any, changes: dict[str, Any], status: int) -> None:
    """The MD5, the headers and the absence of the key are all checked."""
    prepared, put = upload(call, png((8, 8)), **changes)

    confirmed = call.request("POST", "/api/v1/files/confirm", json={"signed_id": prepared["signed_id"]})

    assert put.status_code == status
    assert confirmed.status_code == 422
    assert call.sandbox.ledger.uploads[-1].status == status


@pytest.mark.parametrize(
    ("change", "field"),
    [({"filename": ""}, "filename"), ({"byte_size": 0}, "byte_size"), ({"checksum": "abc"}, "checksum")],
)
def test_a_file_must_be_announced_properly(call: Any, change: dict[str, Any], field: str) -> None:
    """The checksum is the base64 of the MD5 digest, not its hex."""
    good = {"filename": "a.png", "byte_size": 1, "checksum": "1B2M2Y8AsgTpgAmY7PhCfg=="}

    answer = call.request("POST", "/api/v1/files/prepare", json={**good, **change})

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [field]


def test_a_file_can_be_given_as_base64_or_as_a_url(call: Any) -> None:
    """Another's URL becomes a picture of the sandbox's own, unless the service could not reach it."""
    content = png((8, 8))
    data = base64.b64encode(content).decode()
    sources = [
        {"type": "base64", "data": data},
        {"type": "base64", "data": f"data:image/png;base64,{data}"},
        {"type": "url", "url": call.image()},
        {"type": "url", "url": "https://example.com/x.png"},
        {"type": "url", "url": "https://host.invalid/x.png"},
        {"type": "url", "url": "http://127.0.0.1/x.png"},
        {"type": "url", "url": "http://localhost/x.png"},
        {"type": "url", "url": "https://example.com/storage/gone.png"},
        {"type": "url", "url": "ftp://example.com/x.png"},
        {"type": "base64", "data": "%%%"},
        {"type": "path", "path": "/etc/passwd"},
    ]

    answers = [call.request("POST", "/api/v1/files", json={"source": source}) for source in sources]

    assert [answer.status_code for answer in answers] == [200] * 4 + [422] * 7
    assert call.request("GET", answers[0].json()["url"], key=None).content == content
    outside = call.request("GET", answers[3].json()["url"], key=None).content
    assert Image.open(io.BytesIO(outside)).size == (1024, 768)


def test_a_persistent_file_outlives_every_link(call: Any) -> None:
    """It is kept until it is deleted, and no other account sees it."""
    content = bytes(range(256)) * 3 + b"\r\n--\r\n\n\r"
    sent = {"data": {"purpose": "user_data"}, "files": {"file": ("照片.bin", content)}}
    files = [call.request("POST", "/v1/files", **sent).json() for _ in range(3)]
    call.clock.now += 365 * 24 * 3600
    path = f"/v1/files/{files[0]['id']}"
    listed = call.request("GET", "/v1/files?limit=2&order=asc").json()
    rest = call.request("GET", f"/v1/files?order=asc&after={listed['last_id']}").json()

    assert (files[0]["object"], files[0]["bytes"], files[0]["filename"]) == ("file", len(content), "照片.bin")
    assert call.request("GET", f"{path}/content").content == content
    assert ([file["id"] for file in listed["data"]], listed["has_more"]) == ([one["id"] for one in files[:2]], True)
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([files[2]["id"]], False)
    assert call.request("GET", "/v1/files?purpose=other").json()["data"] == []
    assert call.request("GET", path, key="sk-other").status_code == 404
    assert call.request("GET", path, key=None).status_code == 401
    assert call.request("DELETE", path).json() == {"id": files[0]["id"], "object": "file", "deleted": True}
    assert [call.request(method, path).status_code for method in ("GET", "DELETE")] == [404, 404]
    assert call.request("GET", f"{path}/content").status_code == 404
    assert call.request("POST", "/v1/files", json={"purpose": "x"}).status_code == 422


def test_price_schedules_need_no_key_and_are_not_sent_twice(call: Any) -> None:
    """A client keeps them with their ETag."""
    query = "/api/v1/price_schedules?service=flux-2&action=text_to_image&model=flux-2-pro-text-to-image"
    first = call.request("GET", query, key=None)
    second = call.request("GET", query, key=None, headers={"If-None-Match": first.headers["etag"]})

    [schedule] = first.json()["price_schedules"]
    assert schedule["unit_price_cents"] == 5
    assert schedule["billing_config"] == {"key": "output_resolution", "overrides": {"2k": 7}}
    assert (second.status_code, second.content) == (304, b"")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 7),
        ("?service=flux_2", 6),
        ("?service=flux", 1),
        ("?action=remix_image", 3),
        ("?service=other", 0),
        ("?model=none", 0),
    ],
)
def test_price_schedules_are_filtered(call: Any, query: str, count: int) -> None:
    """Both spellings of the service are known."""
    assert len(call.request("GET", f"/api/v1/price_schedules{query}").json()["price_schedules"]) == count


@pytest.mark.parametrize(
    ("tier", "resolution", "cents"),
    [("pro", "1k", 5), ("pro", "2k", 7), ("flex", "1k", 14), ("flex", "2k", 24), ("max", "1k", 10)],
)
def test_a_quote_is_what_the_task_will_cost(call: Any, tier: str, resolution: str, cents: int) -> None:
    """Quotes, reservations and bills agree."""
    model = f"flux-2-{tier}-text-to-image"
    params = {"output_resolution": resolution}
    asked = {"service": "flux-2", "action": "text_to_image", "model": model, "params": params}

    quote = call.request("POST", "/api/v1/price_quotes", key=None, json=asked).json()["price_quote"]
    call.create(model=model, aspect_ratio="1:1", **params)
    call.clock.now += 10

    assert quote["reservation_amount_cents"] == cents
    assert quote["currency"] == "USD"
    assert call.sandbox.ledger.billed_cents == cents


def test_prices_are_in_the_vendors_words(call: Any) -> None:
    """Those of its published fixtures."""
    query = "service=flux&action=text_to_image&model=flux-2-klein"
    [schedule] = call.request("GET", f"/api/v1/price_schedules?{query}").json()["price_schedules"]
    asked = {"service": "flux", "action": "text_to_image", "model": "flux-2-klein", "params": {"prompt": "a fox"}}
    quote = call.request("POST", "/api/v1/price_quotes", key=None, json=asked).json()["price_quote"]
    wrong = {**asked, "params": {"output_resolution": "1k"}}

    assert (schedule["unit_price_cents"], schedule["pricing_status"]) == (3, "available")
    assert (schedule["billing_unit"], schedule["billing_strategy"]) == ("per_call", "flat")
    assert (quote["reservation_amount_cents"], quote["estimate_basis"]) == (3, "exact")
    assert call.request("POST", "/api/v1/price_quotes", json=wrong).status_code == 422
    assert call.request("POST", "/api/v1/price_quotes", json={**asked, "service": "flux-2"}).status_code == 422


def test_a_quote_for_something_unknown_is_refused(call: Any) -> None:
    """Max has no 2k."""
    asked = {"service": "flux-2", "action": "text_to_image", "model": "flux-2-max-text-to-image"}
    answers = [
        call.request("POST", "/api/v1/price_quotes", json={**asked, "params": {"output_resolution": "2k"}}),
        call.request("POST", "/api/v1/price_quotes", json={**asked, "service": "other"}),
        call.request("POST", "/api/v1/price_quotes", content=b"[]"),
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 400]
