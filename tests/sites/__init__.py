"""A web site on loopback with everything that downloads meet: see `site.Site`.

`async with open_site() as site:` runs it in the loop of the test; `site.url("/film.mp4")` is what
to download. What a path offers is said in `site`, how a file misbehaves in `manners`.
"""

from tests.sites.films import film_bytes
from tests.sites.lists import Item
from tests.sites.manners import Manners
from tests.sites.pages import Page
from tests.sites.serving import serving
from tests.sites.site import Site, open_site

__all__ = ["Item", "Manners", "Page", "Site", "film_bytes", "open_site", "serving"]
