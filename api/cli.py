"""`spoolhouse`: every command is the module of `api/commands` that bears its name."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import sys
from importlib.metadata import version
from typing import Any

import click
import structlog
from dotenv import dotenv_values
from rich.console import Console

from api import commands
from streams.errors import SpoolhouseError


class Commands(click.Group):
    """Finds commands by the names of their modules; only the one that is asked for is loaded.

    Errors of ours are one clear line on stderr and exit status 1.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of all modules."""
        return sorted(info.name for info in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{commands.__name__}.{cmd_name}")
        own = [value for value in vars(module).values() if isinstance(value, click.Command)]
        return next(command for command in own if command.name == cmd_name)

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
    _hand_on_credentials()
    # What is shown goes to stdout; a command that serves sets up logging anew, by its settings.
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        )


def _hand_on_credentials() -> None:
    """AWS's own variables may stand in `.env`, too: its library looks for them in the environment, which wins."""
    for name, value in dotenv_values(".env").items():
        if name.startswith("AWS_") and value:
            os.environ.setdefault(name, value)


if __name__ == "__main__":
    main()
