"""Draw the sandbox's pictures: a quiet landscape seeded by the prompt, with the prompt, model and "sandbox" on it."""

from __future__ import annotations

import colorsys
import hashlib
import io
import math
import random
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from flux2_tool.sandbox.fonts import font_of, lines_of, printable

Colour = tuple[int, int, int]

_HILLS = 4
_MOST_LINES = 7
_LARGE_PX = 2_000_000


def picture_size_px(content: bytes) -> tuple[int, int] | None:
    """Pixel size of a picture, None when the bytes are none."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return picture.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


@lru_cache(maxsize=64)
def png_of(
    prompt: str, model: str, size_px: tuple[int, int], *, sources: tuple[bytes | None, ...] = (), drawn: bool = True
) -> bytes:
    """The picture for a prompt, as a PNG; the same for the same arguments.

    Args:
        prompt: Shown, wrapped, on the picture; it also seeds the colours and the shapes.
        model: Named under the prompt.
        size_px: Width and height.
        sources: The pictures a remix starts from, shown small; None for one the sandbox does not have.
        drawn: False gives one plain colour, fast and small.
    """
    rng = random.Random(hashlib.sha256(f"{prompt}\n{model}".encode(errors="surrogatepass")).digest())  # noqa: S311
    hue = rng.random()
    if drawn:
        picture = _landscape(rng, hue, size_px)
        _show_sources(picture, sources)
        _caption(picture, prompt, model)
    else:
        picture = Image.new("RGB", size_px, _colour(hue, 0.4, 0.7))
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _landscape(rng: random.Random, hue: float, size_px: tuple[int, int]) -> Image.Image:
    glow_hue = hue + rng.uniform(0.08, 0.2)
    mesh = Image.new("RGB", (3, 5))
    for row in range(5):
        for column in range(3):
            toward = row / 4
            shade = _colour(
                hue + (glow_hue - hue) * toward + rng.uniform(-0.015, 0.015), 0.55 - 0.3 * toward, 0.62 + 0.36 * toward
            )
            mesh.putpixel((column, row), shade)
    picture = mesh.resize(size_px, Image.Resampling.BICUBIC)
    _sun(picture, rng, glow_hue)
    for number in range(_HILLS):
        _hill(picture, rng, hue, number)
    return picture


def _sun(picture: Image.Image, rng: random.Random, hue: float) -> None:
    width_px, height_px = picture.size
    small = (width_px // 8, height_px // 8)
    radius = min(small) * rng.uniform(0.09, 0.15)
    x, y = small[0] * rng.uniform(0.2, 0.8), small[1] * rng.uniform(0.2, 0.38)
    glow = Image.new("L", small)
    ImageDraw.Draw(glow).ellipse((x - radius * 1.6, y - radius * 1.6, x + radius * 1.6, y + radius * 1.6), fill=150)
    glow = glow.filter(ImageFilter.GaussianBlur(radius * 1.1)).resize(picture.size, Image.Resampling.BICUBIC)
    picture.paste(_colour(hue, 0.12, 1.0), (0, 0), glow)
    box = tuple(round(8 * edge) for edge in (x - radius, y - radius, x + radius, y + radius))
    disc = Image.new("L", ((box[2] - box[0]) * 2, (box[3] - box[1]) * 2))
    ImageDraw.Draw(disc).ellipse((0, 0, disc.width - 1, disc.height - 1), fill=235)
    disc = disc.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS)
    picture.paste(_colour(hue, 0.06, 1.0), (box[0], box[1]), disc)


def _hill(picture: Image.Image, rng: random.Random, hue: float, number: int) -> None:
    width_px, height_px = picture.size
    nearness = number / (_HILLS - 1)
    crest = height_px * (0.47 + 0.14 * number)
    waves = [
        (rng.uniform(0.8, 1.6) * (2**power), rng.uniform(0, math.tau), height_px * 0.055 / (1.8**power))
        for power in range(4)
    ]
    points = []
    for step in range(0, 129):
        share = step / 128
        lift = sum(size * math.sin(math.tau * share * pace + phase) for pace, phase, size in waves)
        points.append((share * width_px, crest + lift))
    # Drawn at twice the size and reduced, for smooth edges; large pictures do without.
    scale = 2 if width_px * height_px < _LARGE_PX else 1
    shape = Image.new("L", (width_px * scale, height_px * scale))
    outline = [(x * scale, y * scale) for x, y in points] + [(shape.width, shape.height), (0, shape.height)]
    ImageDraw.Draw(shape).polygon(outline, fill=255)
    shape = shape.reduce(scale)
    shade = _colour(hue + 0.02 * number, 0.28 + 0.32 * nearness, 0.72 - 0.42 * nearness)
    picture.paste(shade, (0, 0), shape)


def _show_sources(picture: Image.Image, sources: tuple[bytes | None, ...]) -> None:
    """Put the pictures a remix starts from in a row at the top."""
    if not sources:
        return
    unit_px = min(picture.size)
    side_px, gap_px, border_px = round(unit_px * 0.16), round(unit_px * 0.03), max(2, unit_px // 200)
    left_px = gap_px
    for content in sources:
        if left_px + side_px + gap_px > picture.width:
            break
        box = (left_px, gap_px, left_px + side_px, gap_px + side_px)
        ImageDraw.Draw(picture).rounded_rectangle(
            (box[0] - border_px, box[1] - border_px, box[2] + border_px, box[3] + border_px), border_px * 3, "white"
        )
        picture.paste(_thumbnail(content, side_px), box[:2])
        left_px += side_px + gap_px


def _thumbnail(content: bytes | None, side_px: int) -> Image.Image:
    if content is not None:
        try:
            with Image.open(io.BytesIO(content)) as source:
                return ImageOps.fit(source.convert("RGB"), (side_px, side_px))
        except (OSError, ValueError, Image.DecompressionBombError):
            pass
    blank = Image.new("RGB", (side_px, side_px), (205, 210, 220))
    ImageDraw.Draw(blank).text((side_px / 2, side_px / 2), "URL", (90, 95, 110), font_of(side_px // 4), anchor="mm")
    return blank


def _caption(picture: Image.Image, prompt: str, model: str) -> None:
    width_px, height_px = picture.size
    unit_px = min(picture.size)
    margin_px, padding_px = round(unit_px * 0.045), round(unit_px * 0.035)
    room_px = width_px - 2 * (margin_px + padding_px)
    text_px, lines = _fitted(printable(prompt), room_px, unit_px)
    small_px = round(unit_px * 0.024)
    leading_px = round(text_px * 1.42)
    panel_px = leading_px * len(lines) + 2 * padding_px + round(small_px * 1.9)
    top_px = height_px - margin_px - panel_px
    panel = (margin_px, top_px, width_px - margin_px, height_px - margin_px)
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).rounded_rectangle(panel, radius=round(unit_px * 0.025), fill=150)
    picture.paste((14, 16, 26), (0, 0), mask)
    draw = ImageDraw.Draw(picture)
    x_px, y_px = margin_px + padding_px, top_px + padding_px
    for line in lines:
        draw.text((x_px, y_px + leading_px / 2), line, "white", font_of(text_px), anchor="lm")
        y_px += leading_px
    y_px += round(small_px * 1.2)
    note = font_of(small_px)
    draw.text((x_px, y_px), f"{model}  ·  {width_px} x {height_px}", (214, 218, 228), note, anchor="lm")
    draw.text((width_px - x_px, y_px), "sandbox", (255, 214, 128), note, anchor="rm")


def _fitted(text: str, width_px: int, unit_px: int) -> tuple[int, list[str]]:
    """The largest text size at which a text has few enough lines, and the lines; the rest of a long one is cut."""
    for share in (0.046, 0.038, 0.031, 0.026):
        size_px = round(unit_px * share)
        lines = lines_of(text, font_of(size_px), width_px)
        if len(lines) <= _MOST_LINES:
            return size_px, lines
    kept = lines[:_MOST_LINES]
    while kept[-1] and font_of(size_px).getlength(kept[-1] + " …") > width_px:
        kept[-1] = kept[-1][:-1]
    kept[-1] += " …"
    return size_px, kept
