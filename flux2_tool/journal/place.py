"""Where a journal is: a data folder on this machine, or a database that several machines share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flux2_tool._database_url import shown_url
from flux2_tool.settings import Settings


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """The address of a PostgreSQL database, which may hold a password: it is shown nowhere.

    Attributes:
        url: As PostgreSQL's own programs take it.
        schema: The name of the schema that has the journal's tables.
    """

    url: str = field(repr=False)
    schema: str = "flux2_tool"


JournalPlace = Path | DatabaseUrl


def place_text(place: JournalPlace) -> str:
    """Return a place for messages, of a database without user and password."""
    return shown_url(place.url) if isinstance(place, DatabaseUrl) else str(place)


def place_of(settings: Settings) -> JournalPlace | None:
    """Return where the settings put the journal: the database, else the data folder; None when there is neither."""
    return settings.home if settings.journal_url is None else DatabaseUrl(settings.journal_url)
