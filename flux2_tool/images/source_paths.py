"""Find the file that the text of a source means: a path as people write it, a `file:` URL, an inbound reference.

The most literal reading that is a file wins. What may be read at all is decided by `safe_open.py` for each reading.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote

from flux2_tool._files import is_folder
from flux2_tool._folders import expanded
from flux2_tool.exceptions import SourceRefusedError
from flux2_tool.images.safe_open import is_missing, open_source
from flux2_tool.images.source_names import CHECK_PATH, advice_for, is_file_url_elsewhere, shown, spellings
from flux2_tool.images.source_places import SourcePlaces
from flux2_tool.images.source_refusals import MissingSourceError, UnreadableSourceError, ask_for_it, refused

_NO_FOLDER: Final = "use a link or task:ID; the operator can name folders with the setting source_roots."


def open_named(source: str, places: SourcePlaces, *, where: str) -> BinaryIO:
    """Open the file that a source's text means; the caller closes it.

    Args:
        source: As it was given.
        places: The allowed places.
        where: The argument's name, for errors, such as `source_image_urls[0]`.

    Raises:
        SourceRefusedError: As `open_source`; or it is an inbound reference and there is no inbound folder, a `file:`
            URL of another machine, or a relative path without a workspace.
    """
    if is_file_url_elsewhere(source):
        hint = ask_for_it(places, "use file:///path for a file of this machine.")
        raise refused(where, "a file: URL may not name another machine", hint)
    refusal: SourceRefusedError | None = None
    for text in spellings(source):
        try:
            return open_source(_path_of(text, places, where=where), places, where=where, named=shown(source))
        except SourceRefusedError as exc:
            # The last reading is what is left when everything that programs add is taken away. But what is there
            # and cannot be read was meant rather than what is not there.
            if not (isinstance(refusal, UnreadableSourceError) and isinstance(exc, MissingSourceError)):
                refusal = exc
    if refusal is None or isinstance(refusal, MissingSourceError):
        hint = advice_for(source)
        if hint == CHECK_PATH:
            hint = ask_for_it(places, "check the path.")
        raise refused(where, f"there is no such file: {shown(source)}", hint)
    raise refusal


def _path_of(source: str, places: SourcePlaces, *, where: str) -> Path:
    """Return the path of a plain path or of an inbound reference as OpenClaw writes it."""
    for prefix, is_url in (("media://inbound/", True), ("media/inbound/", False)):
        if source.startswith(prefix):
            if places.inbound is None:
                hint = ask_for_it(places, "use a link, a path, or task:ID.")
                raise refused(where, "pictures from the chat exist only in OpenClaw", hint)
            name = unquote(source.removeprefix(prefix))
            has_copies = not is_url and places.workspace is not None and is_folder(places.workspace)
            copy = places.staged / name if has_copies and places.staged is not None else None
            return copy if copy is not None and not is_missing(copy, places) else places.inbound / name
    if source.startswith("~/"):
        try:
            return expanded(source, os.environ)
        except ValueError:
            raise refused(where, "this process has no home folder", "Use an absolute path.") from None
    path = Path(source)
    if path.is_absolute():
        return path
    if places.workspace is None and places.roots is None:
        # A person's relative path is that of the working folder, which every process has until it is deleted.
        hint = "Change to a folder that exists, or use an absolute path."
        raise refused(where, f"{shown(source)} is relative to the working folder, which has been deleted", hint)
    if places.workspace is None:
        hint = advice_for(source)
        if hint == CHECK_PATH:
            hint = ask_for_it(places, "use an absolute path." if places.roots else _NO_FOLDER)
        raise refused(where, "a relative path needs a workspace and this call has none", hint)
    return places.workspace / path
