"""`python -m intervention`: questions to question sets, probes to beliefs, both to instruction sets; and what data clashes."""

import typer

from intervention.commands import questions, requests
from intervention.commands.agree import agree
from intervention.commands.answers import answers
from intervention.commands.audit import audit
from intervention.commands.beliefs import beliefs
from intervention.commands.build import build
from intervention.commands.compare import compare
from intervention.commands.push import push
from intervention.commands.released import released
from lm_eval_tasks.contracts.errors import report_errors

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False, rich_markup_mode=None
)
app.add_typer(questions.app, name="questions")
app.command()(audit)
app.command()(answers)
app.command()(beliefs)
app.add_typer(requests.app, name="requests")
app.command()(build)
app.command()(compare)
app.command()(agree)
app.command()(released)
app.command()(push)

if __name__ == "__main__":
    with report_errors():
        app()
