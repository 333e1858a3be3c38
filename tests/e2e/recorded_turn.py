"""The turn that the READMEs show: how it is told in each language, and its picture."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

from flux2_tool.openclaw.bundle import MINIMUM_OPENCLAW
from tests.e2e.scripted_model import ToolCall
from tests.support.readme import ROOT, read

PICTURE = Path(__file__).with_name("recorded-turn.jpg")
BEGIN, END = "<!-- a recorded turn: begin -->\n", "<!-- a recorded turn: end -->"
_WIDTH_PX = 720
_TOLD = {
    "README.md": """\
In a Telegram group, with OpenClaw {openclaw}, recorded by the end-to-end tests: the chat model is scripted,
and the picture is the sandbox's.

> **Fay:** {asked}

The agent calls `{tool}`:

```json
{arguments}
```

and reads, when the picture is there:

```text
{answered}
```

The group sees:

> ![{prompt}, as the sandbox draws it](tests/e2e/{picture})
>
> {said}
""",
    "README.zh-CN.md": """\
在一个 Telegram 群里，OpenClaw {openclaw}，由端到端测试录下：聊天模型照脚本说话，图片是模拟服务画的。

> **Fay：** {asked}

智能体调用 `{tool}`：

```json
{arguments}
```

图片好了以后读到：

```text
{answered}
```

群里看到：

> ![{prompt}，模拟服务所画](tests/e2e/{picture})
>
> {said}
""",
}


def recorded_turn(*, asked: str, call: ToolCall, answered: str, said: str) -> dict[str, str]:
    """Return a turn as each README tells it, with ids and the long link shortened."""
    answered = re.sub(r"tsk_\w+", "tsk_…", answered)
    answered = re.sub(r"^https?://\S+$", "https://…", answered, flags=re.MULTILINE)
    facts = {
        "openclaw": MINIMUM_OPENCLAW,
        "asked": asked,
        "tool": call.tool,
        "arguments": json.dumps(call.arguments, ensure_ascii=False),
        "answered": answered,
        "prompt": call.arguments["prompt"],
        "picture": PICTURE.name,
        "said": said,
    }
    return {name: told.format(**facts) for name, told in _TOLD.items()}


def write_record(records: Mapping[str, str], photo: bytes) -> None:
    """Put a turn and its picture into the READMEs' place for it; then docs/render-chat makes its picture of a chat."""
    for name, record in records.items():
        head, rest = read(name).split(BEGIN)
        (ROOT / name).write_text(f"{head}{BEGIN}{record}{END}{rest.split(END, 1)[1]}", encoding="utf-8")
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
