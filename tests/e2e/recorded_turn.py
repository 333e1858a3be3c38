"""The turns that the pages show, one in each language: who says what, how it is told, and their pictures."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

from flux2_tool.openclaw.npm_package import MINIMUM_OPENCLAW
from tests.e2e.scripted_model import ToolCall
from tests.support.readme import ROOT, read

BEGIN, END = "<!-- a recorded turn: begin -->\n", "<!-- a recorded turn: end -->"
_WIDTH_PX = 720


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn in a group chat.

    Attributes:
        page: Where it is told.
        name: The script's name, and the picture's file name without its ending.
        asked: What somebody writes.
        call: What the model does.
        said: What the model says when the picture is there.
        told: The page's text, with the turn's parts in braces.
    """

    page: str
    name: str
    asked: str
    call: ToolCall
    said: str
    told: str

    @property
    def picture(self) -> Path:
        """The picture that the group got, scaled down."""
        return Path(__file__).with_name(f"{self.name}.jpg")

    def record(self, *, answered: str, said: str) -> str:
        """Return the turn as its page tells it, with ids and the long link shortened."""
        answered = re.sub(r"tsk_\w+", "tsk_…", answered)
        answered = re.sub(r"^https?://\S+$", "https://…", answered, flags=re.MULTILINE)
        return self.told.format(
            openclaw=MINIMUM_OPENCLAW,
            asked=self.asked,
            tool=self.call.tool,
            arguments=json.dumps(self.call.arguments, ensure_ascii=False),
            answered=answered,
            prompt=self.call.arguments["prompt"],
            picture=self.picture.name,
            said=said,
        )

    def write(self, record: str, photo: bytes) -> None:
        """Put what was recorded into its page; then docs/render-chat makes the README's picture of a chat."""
        head, rest = read(self.page).split(BEGIN)
        (ROOT / self.page).write_text(f"{head}{BEGIN}{record}{END}{rest.split(END, 1)[1]}", encoding="utf-8")
        with Image.open(io.BytesIO(photo)) as picture:
            small = picture.convert("RGB").resize((_WIDTH_PX, round(picture.height * _WIDTH_PX / picture.width)))
        small.save(self.picture, quality=80, optimize=True)


ENGLISH = Turn(
    page="docs/how-it-works.md",
    name="recorded-turn",
    asked="Could you make us a picture of a red fox in the snow? Wide, please.",
    call=ToolCall(tool="text_to_image", arguments={"prompt": "a red fox in the snow", "aspect_ratio": "16:9"}),
    said="Here is your fox in the snow. It cost 5 cents; say so if you want it changed.",
    told="""\
In a Telegram group, with OpenClaw {openclaw}, recorded by the end-to-end tests: the chat model is scripted,
and the image is drawn by the sandbox.

> **Fay:** {asked}

The agent calls `{tool}`:

```json
{arguments}
```

and, when the image is there, reads:

```text
{answered}
```

The group sees:

> ![{prompt}, as the sandbox draws it](../tests/e2e/{picture})
>
> {said}
""",
)
CHINESE = Turn(
    page="docs/zh-CN/how-it-works.md",
    name="recorded-turn-zh-CN",
    asked="能给我们画一张雪地里的赤狐吗？要横幅的。",
    call=ToolCall(tool="text_to_image", arguments={"prompt": "雪地里的一只赤狐", "aspect_ratio": "16:9"}),
    said="雪地里的赤狐画好了，花了 5 美分。想改哪里，直接说就行。",
    told="""\
在一个 Telegram 群里，使用 OpenClaw {openclaw}，由端到端测试录制：聊天模型按脚本应答，图片由沙箱绘制。

> **小雅：** {asked}

智能体调用 `{tool}`：

```json
{arguments}
```

图片完成后，它读到（工具返回给模型的文字是英文）：

```text
{answered}
```

群里看到：

> ![{prompt}，由沙箱绘制](../../tests/e2e/{picture})
>
> {said}
""",
)
TURNS = (ENGLISH, CHINESE)


def difference(one: bytes, other: bytes) -> float:
    """Return how much two pictures differ, from 0 for not at all to 255, whatever their sizes."""
    small = []
    for data in (one, other):
        with Image.open(io.BytesIO(data)) as picture:
            small.append(picture.convert("RGB").resize((160, 90)))
    return max(ImageStat.Stat(ImageChops.difference(*small)).mean)
