"""`spoolhouse config`: every setting, its value, and where that comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import click
from dotenv import dotenv_values
from pydantic import AliasChoices, SecretStr

from api.showing import AS_JSON, console, plain, print_json, table
from streams.connections import shown
from streams.settings import Settings, load_settings


@click.command()
@AS_JSON
@click.option("--set", "only_set", is_flag=True, help="Only what is set.")
def config(*, as_json: bool, only_set: bool) -> None:
    """Show every setting: its value and where it comes from. Secrets are hidden."""
    rows = [row for row in _rows(load_settings()) if not only_set or row["from"] != "default"]
    if as_json:
        print_json(rows)
        return
    made = table("setting", "value", "from")
    for row in rows:
        style = "dim" if row["from"] == "default" else ""
        made.add_row(plain(row["name"], "bold"), plain(row["value"], style), plain(row["from"], style))
    console().print(made)


def _rows(settings: Settings) -> Iterator[dict[str, str]]:
    in_file = dotenv_values(".env")
    for field, info in Settings.model_fields.items():
        names = _names(field, info.validation_alias)
        yield {"name": names[0], "value": _value(getattr(settings, field)), "from": _origin(names, in_file)}


def _names(field: str, alias: Any) -> list[str]:
    """The names by which a setting is known in the environment, ours first."""
    if isinstance(alias, AliasChoices):
        return list(dict.fromkeys(str(choice) for choice in alias.choices))
    return [alias] if isinstance(alias, str) else [f"SPOOLHOUSE_{field.upper()}"]


def _origin(names: list[str], in_file: dict[str, str | None]) -> str:
    # Names count in their order, the environment before the file for each; case does not matter.
    environment = {name.upper() for name, value in os.environ.items() if value}
    written = {name.upper() for name, value in in_file.items() if value}
    for present, where in ((environment, "environment"), (written, ".env")):
        for name in names:
            if name.upper() in present:
                return where if name == names[0] else f"{where} ({name})"
    return "default"


def _value(value: object) -> str:
    """As a person reads it. A secret that is a URL shows everything but its password."""
    match value:
        case None:
            return ""
        case SecretStr():
            text = value.get_secret_value()
            return shown(text) if "://" in text else "***"
        case bool():
            return "yes" if value else "no"
        case tuple() | frozenset():
            parts = [str(part) for part in value]
            return ", ".join(sorted(parts) if isinstance(value, frozenset) else parts)
        case _:
            return str(value)
