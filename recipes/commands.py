"""How a module of recipes becomes a command: `python -m recipes.merge`, say."""

from collections.abc import Callable

import typer

from lm_eval_tasks.contracts.errors import report_errors


def run_command(main: Callable[..., None]) -> None:
    """Run a function as the command of its module; errors of the user are a line each."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    with report_errors():
        app()
