"""Which video someone means who gives the first characters of its id."""

from __future__ import annotations

from projections.queries import Catalogue
from streams.errors import DependencyDownError, NotFoundError, RejectedError

WHOLE = 36
"""Characters of a whole id: the catalogue, which may be down or gone, is not asked for it."""


async def resolve(catalogue: Catalogue, start: str) -> str:
    """The one video whose id begins so. Raises NotFoundError, RejectedError (400)."""
    if len(start) >= WHOLE:
        return start.lower()
    try:
        matches = await catalogue.ids_beginning(start.lower(), 3)
    except DependencyDownError as error:
        raise NotFoundError(f"{error}. Give the whole id: then the catalogue is not asked.") from error
    if not matches:
        raise NotFoundError(f"There is no video whose id begins with {start!r}: `spoolhouse list` shows them.")
    if len(matches) > 1:
        raise RejectedError(400, f"More than one id begins with {start!r}: {', '.join(matches)} … Give more of it.")
    return matches[0]
