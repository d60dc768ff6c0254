"""Names in the media root: nothing that a stranger wrote leads out of it, is too long, or is refused by a file system."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.storage.library_names import ROOM, cut, language_of, named, safe
from processors.storage.library_nfo import Film, nfo
from streams.download_checks import TEMPLATE_FIELDS, checked_template

DEFAULT = "{title} ({year})/{title} ({year}) [{id}]"

hostile = st.text(max_size=400) | st.text(alphabet='./\\ :*?"<>|\0\n\t\u202e\u200b\u200d[]()👩🏽é́', max_size=400)
templates = st.lists(
    st.sampled_from([*(f"{{{name}}}" for name in TEMPLATE_FIELDS), " ", "-", "(", ")", "[", "]", "x", "/y"]),
    max_size=12,
).map(lambda parts: "".join(parts) + "{id}")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"title": "A Film", "year": "2024", "id": "abc-_1"}, ("A Film (2024)", "A Film (2024) [abc-_1]")),
        ({"title": "A Film", "year": None, "id": "abc"}, ("A Film", "A Film [abc]")),
        (
            {"title": "Part 1: The/End?", "year": "1999", "id": "a"},
            ("Part 1 - The-End (1999)", "Part 1 - The-End (1999) [a]"),
        ),
        ({"title": "() [] {year}", "year": None, "id": "a"}, ("() [] {year}", "() [] {year} [a]")),
        ({"title": "... ", "year": None, "id": "../../etc"}, ("Untitled", "Untitled [-..-etc]")),
        ({"title": None, "year": None, "id": "a"}, ("Untitled", "Untitled [a]")),
        ({"title": "NUL", "year": None, "id": "a"}, ("NUL_", "NUL [a]")),
        ({"title": "con.Air", "year": None, "id": "a"}, ("con_.Air", "con_.Air [a]")),
        ({"title": "evil\u202egpj.exe", "year": None, "id": "a"}, ("evilgpj.exe", "evilgpj.exe [a]")),
    ],
)
def test_titles_become_names(fields: dict[str, str | None], expected: tuple[str, ...]) -> None:
    """By the default template; what is not known leaves no empty brackets, and those of a title stay."""
    assert named(DEFAULT, fields) == expected


def test_a_field_that_is_missing_takes_its_dash_with_it() -> None:
    """Whichever side it is on."""
    assert named("{date} - {title} - {uploader} [{id}]", {"title": "T", "id": "1"}) == ("T [1]",)
    assert named("{uploader}/{title} [{id}]", {"title": "T", "id": "1"}) == ("Untitled", "T [1]")


def test_a_long_title_is_cut_and_the_id_stays() -> None:
    """300 bytes of emoji, none of them cut in two."""
    folder, name = named(DEFAULT, {"title": "👩🏽‍🚀" * 100, "year": "2024", "id": "abc"})
    assert name.endswith(" (2024) [abc]")
    assert folder.endswith("👩🏽‍🚀 (2024)")
    assert len(name.encode()) + ROOM <= 255
    assert name.removesuffix(" (2024) [abc]").replace("👩🏽‍🚀", "") == ""


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(TEMPLATE_FIELDS), hostile | st.none()), st.just(DEFAULT) | templates)
def test_no_name_leads_out_or_is_too_long(fields: dict[str, str | None], template: str) -> None:
    """Whatever pages say, by whichever template that is allowed."""
    try:
        checked_template(template)
    except ValueError:
        return
    parts = named(template, {"id": None, **fields})
    assert len(parts) == template.count("/") + 1
    for part in parts:
        assert part
        assert part not in {".", ".."}
        assert len(part.encode()) <= 255 - (ROOM if part is parts[-1] and len(parts) == 1 else 0)
        assert not set(part) & set('/\\:*?"<>|')
        assert part == part.strip()
        assert not part.startswith(".")
        assert not part.endswith(".")
        assert not [c for c in part if unicodedata.category(c) in {"Cc", "Cs"} or c in "\u202e\u2066\u200b"]
    assert len(parts[-1].encode()) <= 255 - ROOM
    root = Path("/media")
    assert (root / Path(*parts)).resolve().is_relative_to(root)


@settings(deadline=None, max_examples=100)
@given(hostile, st.integers(0, 60))
def test_cutting_keeps_characters_whole(text: str, limit: int) -> None:
    """A beginning of it, that fits."""
    clean = safe(text)
    kept = cut(clean, limit)
    assert clean.startswith(kept)
    assert len(kept.encode()) <= limit


def test_languages_are_languages() -> None:
    """They stand in a name, too."""
    assert [language_of(one) for one in ("en", "pt-BR", "../x", None, "")] == ["en", "pt-BR", "x", "und", "und"]


@settings(deadline=None, max_examples=100)
@given(hostile, hostile)
def test_what_media_servers_read_is_xml(title: str, plot: str) -> None:
    """Whatever a page says, it is read as text and nothing else."""
    film = Film(
        title, plot, "2024-05-06", "Someone <b>", 754.2, "Youtube", "abc", "https://example.com/?a=1&b=2", ("x", "x")
    )
    root = ET.fromstring(nfo(film))
    assert root.tag == "movie"
    found = {one.tag: one.text for one in root}
    assert (found["year"], found["premiered"], found["runtime"]) == ("2024", "2024-05-06", "13")
    assert found["studio"] == found["director"] == "Someone <b>"
    assert found["website"] == "https://example.com/?a=1&b=2"
    unique = root.find("uniqueid")
    assert unique is not None
    assert (unique.attrib, unique.text) == ({"type": "youtube", "default": "true"}, "abc")
    assert len(root.findall("tag")) == 1
