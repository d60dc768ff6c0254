"""`spoolhouse`: every command is a module of `api/commands`, found by itself."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from types import ModuleType
from typing import Any

import click
from rich.console import Console

from api import commands
from streams.errors import SpoolhouseError


class Commands(click.Group):
    """A group whose errors are one clear line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except SpoolhouseError as error:
            Console(stderr=True, soft_wrap=True, highlight=False).print(f"spoolhouse: {error}", markup=False)
            ctx.exit(1)
        except BrokenPipeError:
            # Whoever read us (head, less) has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("spoolhouse"), prog_name="spoolhouse")
def main() -> None:
    """Takes in video from anywhere, never loses it, and can say what happened to every file.

    Settings come from the environment (SPOOLHOUSE_…) and from .env: see `spoolhouse config`.
    """


def _found() -> Iterator[click.Command]:
    """The commands of all modules; those that belong to a group come with it."""
    for info in pkgutil.iter_modules(commands.__path__):
        module: ModuleType = importlib.import_module(f"{commands.__name__}.{info.name}")
        own = [value for value in vars(module).values() if isinstance(value, click.Command)]
        inner = {id(command) for group in own if isinstance(group, click.Group) for command in group.commands.values()}
        yield from (command for command in own if id(command) not in inner)


for _command in _found():
    main.add_command(_command)


if __name__ == "__main__":
    main()
