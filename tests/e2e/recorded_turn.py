"""The turn that the README shows: how it is told, and its picture."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

from flux2_tool.openclaw.plugin import MINIMUM_OPENCLAW

from .scripted_model import ToolCall

README = Path(__file__).parents[2] / "README.md"
PICTURE = Path(__file__).with_name("recorded-turn.jpg")
BEGIN, END = "<!-- a recorded turn: begin -->\n", "<!-- a recorded turn: end -->"
_WIDTH_PX = 720


def recorded_turn(*, asked: str, call: ToolCall, answered: str, said: str) -> str:
    """Return a turn as the README tells it, with ids and the long link shortened."""
    answered = re.sub(r"tsk_\w+", "tsk_…", answered)
    answered = re.sub(r"^https?://\S+$", "https://…", answered, flags=re.MULTILINE)
    return f"""\
In a Telegram group, with OpenClaw {MINIMUM_OPENCLAW}, recorded by the end-to-end tests: the chat model is scripted,
and the picture is the sandbox's.

> **Fay:** {asked}

The agent calls `{call.tool}`:

```json
{json.dumps(call.arguments, ensure_ascii=False)}
```

and reads, when the picture is there:

```text
{answered}
```

The group sees:

> ![{call.arguments["prompt"]}, as the sandbox draws it](tests/e2e/{PICTURE.name})
>
> {said}
"""


def write_record(record: str, photo: bytes) -> None:
    """Put a turn and its picture into the README's place for it."""
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    README.write_text(f"{head}{BEGIN}{record}{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    with Image.open(io.BytesIO(photo)) as picture:
        small = picture.convert("RGB").resize((_WIDTH_PX, round(picture.height * _WIDTH_PX / picture.width)))
    small.save(PICTURE, quality=80, optimize=True)


def difference(one: bytes, other: bytes) -> float:
    """Return how much two pictures differ, from 0 for not at all to 255, whatever their sizes."""
    small = []
    for data in (one, other):
        with Image.open(io.BytesIO(data)) as picture:
            small.append(picture.convert("RGB").resize((160, 90)))
    return max(ImageStat.Stat(ImageChops.difference(*small)).mean)
