"""Eight photos of a phone at once: how long checking, turning and stripping them takes, in a new worker.

Half of them are portraits, to be turned upright. Each is the source of a call of its own, which the day's cap refuses
once all is checked: so nothing is uploaded, and a call takes as long as its photo. The first of the measured calls
starts the processes that decode. See `family_costs.py` for memory and CPU time.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from typing import Any, Final

from PIL import Image, ImageChops

from benchmarks.bench import Bench, say
from benchmarks.family_costs import Costs
from benchmarks.pictures import AT_ONCE, outcome_of

SIZE: Final = (4032, 3024)
TURNS: Final = 5
WAIT_S: Final = 60
# Less than any picture costs.
_CAP: Final = {"daily_cap_usd": 0.001}


async def measure(bench: Bench) -> list[dict[str, Any]]:
    """Return one entry a turn, each with a worker of its own."""
    photos = [photo(number, orientation=6 if number % 2 else 1) for number in range(AT_ONCE)]
    entries = []
    for _ in range(TURNS):
        home = bench.new_home()
        home.mkdir(parents=True, exist_ok=True)
        names = [f"{number}.jpg" for number in range(AT_ONCE)]
        for name, data in zip(names, photos, strict=True):
            (home / name).write_bytes(data)
        async with bench.ours(home=home, config=_CAP) as client:
            await client.remix("none.png", workspace=home, wait_s=WAIT_S)
            costs = Costs(client.meter.pid)
            watching = asyncio.create_task(costs.watch())
            begun_s = time.monotonic()
            results = await asyncio.gather(*(client.remix(name, workspace=home, wait_s=WAIT_S) for name in names))
            wall_s = time.monotonic() - begun_s
            watching.cancel()
            await asyncio.wait([watching])
        outcomes = Counter(outcome_of(result) for result in results)
        entries.append(
            {"file_bytes": sum(map(len, photos)) // AT_ONCE, "outcomes": dict(outcomes), "wall_s": wall_s}
            | {"peak_bytes": costs.peak_bytes, "cpu_s": costs.cpu_s}
        )
        say(f"photos: {costs.peak_bytes / 1e6:.0f} MB, {costs.cpu_s:.2f} s of CPU, {wall_s:.2f} s; {dict(outcomes)}")
    return entries


def photo(number: int, *, orientation: int) -> bytes:
    """Return a JPEG as a phone's camera writes it: soft shapes, a sensor's noise, and notes of where it was taken."""
    noise = Image.effect_noise(SIZE, 8)
    grain = Image.effect_noise((SIZE[0] // 8, SIZE[1] // 8), 50).resize(SIZE, Image.Resampling.BICUBIC)
    round_, straight = Image.radial_gradient("L").resize(SIZE), Image.linear_gradient("L").resize(SIZE)
    shapes = (round_, straight.rotate(20 * number), ImageChops.invert(round_))
    bands = [ImageChops.add(ImageChops.add(shape, noise, 1, -128), grain, 1, -128) for shape in shapes]
    notes = Image.Exif()
    notes[0x0112] = orientation
    place = notes.get_ifd(0x8825)
    place.update({1: "N", 2: (47.0, 22.0, 30.0), 3: "E", 4: (8.0, 32.0, 10.0)})
    output = io.BytesIO()
    Image.merge("RGB", bands).save(output, "JPEG", quality=90, exif=notes)
    return output.getvalue()
