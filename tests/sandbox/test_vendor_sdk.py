"""Proof of fidelity: the vendor's own SDK works against the sandbox, over real loopback HTTP."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from runapi.core.errors import (
    AuthenticationError,
    ConflictError,
    InsufficientCreditsError,
    NotFoundError,
    TaskFailedError,
    ValidationError,
)
from runapi.core.options import RequestOptions
from runapi.flux import FluxClient
from runapi.flux_2 import Flux2Client

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox


@contextmanager
def vendor_client(
    options: SandboxOptions, key: str = "sk-vendor", kind: type[Any] = Flux2Client
) -> Iterator[tuple[Any, Sandbox]]:
    with running_sandbox(options) as (base_url, sandbox):
        client = kind(api_key=key, base_url=base_url)
        try:
            yield client, sandbox
        finally:
            client._http.close()


def test_the_sdk_runs_both_actions() -> None:
    """It creates, polls every 2 s, and hands the image over; a remix of that image follows."""
    with vendor_client(SandboxOptions(duration_s=1.0)) as (client, sandbox):
        text = client.text_to_image.run(
            model="flux-2-pro-text-to-image", prompt="a red fox in the snow", aspect_ratio="16:9"
        )
        remix = client.remix_image.run(
            model="flux-2-flex-remix-image",
            prompt="make it night",
            source_image_urls=[text.images[0].url],
            aspect_ratio="auto",
        )
        pictures = [Image.open(io.BytesIO(httpx.get(task.images[0].url).content)) for task in (text, remix)]

        assert (text.status, remix.status) == ("completed", "completed")
        assert (text.usage.cost, remix.usage.cost) == (0.05, 0.14)
        assert [picture.size for picture in pictures] == [(1360, 768), (1360, 768)]
        assert all(task.polls == 2 for task in sandbox.ledger.tasks.values())
        assert sandbox.ledger.billed_cents == 19
        assert sandbox.ledger.authorization_leaks == []


def test_the_sdk_reads_account_balance_schedules_and_quotes() -> None:
    """Its models have required fields; a missing one raises."""
    with vendor_client(SandboxOptions(duration_s=0, balance_cents=500)) as (client, _):
        client.text_to_image.run(model="flux-2-pro-text-to-image", prompt="a red fox")
        info, balance = client.account.info(), client.account.balance()
        schedules = client.pricing.list_schedules(service="flux-2", action="text_to_image")
        quote = client.pricing.create_quote(
            service="flux-2",
            action="text_to_image",
            model="flux-2-flex-text-to-image",
            params={"output_resolution": "2k"},
        )

        assert info.account.name == "Sandbox Account"
        assert (balance.balance_cents, balance.spent_cents_total) == (495, 5)
        assert [schedule.unit_price_cents for schedule in schedules.price_schedules] == [5, 14, 10]
        assert quote.price_quote.reservation_amount_cents == 24


def test_the_sdk_uploads_a_file_and_remixes_it(tmp_path: Path) -> None:
    """Prepare, PUT without the key, confirm: the SDK does all three."""
    photo = tmp_path / "照片.png"
    Image.new("RGB", (1200, 1600), "navy").save(photo)
    with vendor_client(SandboxOptions(duration_s=0)) as (client, sandbox):
        uploaded = client.files.create(file=photo)
        copied = client.files.create(source=uploaded.url, file_name="copy.png")
        remix = client.remix_image.run(
            model="flux-2-pro-remix-image",
            prompt="as a watercolour",
            source_image_urls=[uploaded.url, copied.url],
            aspect_ratio="auto",
        )
        picture = Image.open(io.BytesIO(httpx.get(remix.images[0].url).content))

        assert (uploaded.file_name, uploaded.mime_type) == ("照片.png", "image/png")
        assert copied.size_bytes == photo.stat().st_size
        assert picture.size == (864, 1152)
        assert sandbox.ledger.authorization_leaks == []


def test_the_sdk_maps_refusals_to_its_own_errors() -> None:
    """Statuses and bodies are those the SDK knows."""
    with vendor_client(SandboxOptions(duration_s=0, balance_cents=6)) as (client, _):
        create = client.text_to_image.create
        model, options = "flux-2-pro-text-to-image", RequestOptions(headers={"Idempotency-Key": "k"})
        with pytest.raises(ValidationError, match="Validation failed") as invalid:
            create(model=model, prompt="ab")
        with pytest.raises(TaskFailedError, match="content policy"):
            client.text_to_image.run(model=model, prompt="a fox [moderated]")
        create(model=model, prompt="a red fox", options=options)
        with pytest.raises(ConflictError):
            create(model=model, prompt="another fox", options=options)
        with pytest.raises(InsufficientCreditsError):
            create(model=model, prompt="a red fox")
        with pytest.raises(NotFoundError):
            client.text_to_image.get("no-such-task")

        assert invalid.value.details["errors"] == {"prompt": ["is too short (minimum is 3 characters)"]}
        assert invalid.value.request_id.startswith("req_")


def test_the_sdk_recognises_a_bad_key() -> None:
    """401, with a body it can read."""
    with vendor_client(SandboxOptions(), key="wrong") as (client, _), pytest.raises(AuthenticationError):
        client.account.balance()


def test_the_sdk_follows_a_location_with_envelopes() -> None:
    """The envelope's body is the finished task."""
    options = SandboxOptions(duration_s=0, status_link="location", status_link_envelope=True)
    with vendor_client(options) as (client, _):
        task = client.text_to_image.create(model="flux-2-pro-text-to-image", prompt="a red fox")

        result = client.text_to_image.subscribe(task.response_headers["location"])

        assert result.images[0].url.startswith("http://127.0.0.1:")


def test_the_sdk_makes_a_picture_with_klein() -> None:
    """Under the service flux, which has an SDK of its own."""
    with vendor_client(SandboxOptions(duration_s=0.5), kind=FluxClient) as (client, sandbox):
        done = client.text_to_image.run(model="flux-2-klein", prompt="a red fox", aspect_ratio="3:2")
        with pytest.raises(ValidationError):
            client.text_to_image.create(model="flux-2-klein", prompt="a red fox", output_resolution="1k")
        schedules = client.pricing.list_schedules(service="flux", action="text_to_image")
        quote = client.pricing.create_quote(service="flux", action="text_to_image", model="flux-2-klein", params={})

        assert Image.open(io.BytesIO(httpx.get(done.images[0].url).content)).size == (1248, 832)
        assert done.usage.cost == 0.03
        assert [schedule.unit_price_cents for schedule in schedules.price_schedules] == [3]
        assert quote.price_quote.reservation_amount_cents == sandbox.ledger.billed_cents == 3


def test_the_sdk_reads_the_task_id_of_a_header_and_recovers_by_it() -> None:
    """As its guide says: keep the address of the task, and follow it."""
    with vendor_client(SandboxOptions(duration_s=0.2)) as (client, _):
        options = RequestOptions(headers={"Idempotency-Key": "k"})
        model, prompt = "flux-2-pro-text-to-image", "a red fox"
        made = client.text_to_image.create(model=model, prompt=prompt, options=options)
        again = client.text_to_image.create(model=model, prompt=prompt, options=options)
        result = client.text_to_image.subscribe(f"/api/v1/tasks/{made.runapi_task_id}")

        assert made.runapi_task_id == made.id == again.runapi_task_id
        assert again["task_replayed"] is True
        assert made["billing"]["reservation"]["amount_cents"] == 5
        assert result.images[0].url.startswith("http://127.0.0.1:")
        assert result.usage.cost == 0.05


def test_the_sdk_keeps_files(tmp_path: Path) -> None:
    """Made, listed, read and deleted."""
    photo = tmp_path / "照片.png"
    Image.new("RGB", (40, 30), "navy").save(photo)
    with vendor_client(SandboxOptions()) as (client, _):
        first = client.files.create_file(file=photo)
        second = client.files.create_file(file=photo, purpose="vision", file_name="copy.png")
        page = client.files.list(limit=1, order="asc")
        rest = client.files.list(after=page.last_id, order="asc")
        content = client.files.content(first.id)
        deleted = client.files.delete_file(first.id)

        assert (first.filename, first.bytes, first.purpose) == ("照片.png", photo.stat().st_size, "user_data")
        assert (page.data[0].id, page.has_more, rest.data[0].id) == (first.id, True, second.id)
        assert client.files.list(purpose="vision").data[0].filename == "copy.png"
        assert content == photo.read_bytes()
        assert deleted.deleted is True
        with pytest.raises(NotFoundError):
            client.files.retrieve(first.id)


def test_the_sdk_gives_a_url_of_the_internet_as_a_file() -> None:
    """The sandbox, which has no internet, draws one in its place."""
    with vendor_client(SandboxOptions(duration_s=0)) as (client, _):
        file = client.files.create(source="https://cdn.runapi.ai/public/samples/input.png", file_name="input.png")

        assert (file.file_name, file.mime_type) == ("input.png", "image/png")
        assert Image.open(io.BytesIO(httpx.get(file.url).content)).size == (1024, 768)


def test_the_sdk_uploads_a_file_in_parts(tmp_path: Path) -> None:
    """In the order of the ids; a wrong size or a part that is not there makes no file."""
    parts = [tmp_path / name for name in ("one", "two")]
    for part in parts:
        part.write_bytes(part.name.encode() * 100)
    with vendor_client(SandboxOptions()) as (client, _):
        upload = client.uploads.create(bytes=600, filename="whole.bin", mime_type="application/octet-stream")
        second, first = [client.uploads.add_part(upload.id, data=part) for part in reversed(parts)]
        for part_ids in ([first.id], [first.id, "part_none"]):
            with pytest.raises(ValidationError):
                client.uploads.complete(upload.id, part_ids=part_ids)
        done = client.uploads.complete(upload.id, part_ids=[first.id, second.id])
        other = client.uploads.create(bytes=1, filename="no.bin", mime_type="text/plain")

        assert (upload.status, done.status, done.file.filename) == ("pending", "completed", "whole.bin")
        assert client.files.content(done.file.id) == b"one" * 100 + b"two" * 100
        assert client.uploads.cancel(other.id).status == "cancelled"
        with pytest.raises(NotFoundError):
            client.uploads.add_part(other.id, data=parts[0])
