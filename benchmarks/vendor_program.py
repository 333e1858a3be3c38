"""Makes pictures with the vendor's SDK, used as its documentation says: `client.text_to_image.run(...)`.

    python -m benchmarks.vendor_program THREADS

`run` blocks until the picture is there and polls every 2 s, so each picture has a thread; the threads share one
client, which keeps its connections. Takes `{"id", "arguments"}` a line, answers `{"id", "task_id"}` or
`{"id", "failure"}`. The SDK takes its key from the environment; its address has to be told, or it is RunAPI's own.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runapi.flux_2 import Flux2Client


def main() -> None:
    """Serve until the input ends."""
    client = Flux2Client(base_url=os.environ["RUNAPI_BASE_URL"])
    output = threading.Lock()

    def make(question: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": question["id"]}
        try:
            result = client.text_to_image.run(**question["arguments"])
            if not result.images or not result.images[0].url:
                raise ValueError("no picture")
            answer["task_id"] = result.id
        except Exception as exc:  # noqa: BLE001 - whatever it is, the benchmark reports it as a failure
            answer["failure"] = f"{type(exc).__name__}: {exc}"
        with output:
            print(json.dumps(answer), flush=True)

    with ThreadPoolExecutor(max_workers=int(sys.argv[1])) as pool:
        for line in sys.stdin:
            pool.submit(make, json.loads(line))


if __name__ == "__main__":
    main()
