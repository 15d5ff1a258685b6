"""Judge instruction data of known truth and train on it, or what is still missing of that, and print its tables.

python -m recipes.agreement recipes/agreement/miniworld.yaml      run it (again: do nothing; killed: go on)
python -m recipes.agreement recipes/agreement/miniworld.yaml -n   show the plan
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from lm_eval_tasks.contracts.errors import UserError, report_errors
from recipes.agreement.tables import TABLES
from recipes.workflow import run_workflow
from recipes.yaml_files import ANY, read_yaml, refuse_unknown

SNAKEFILE = Path(__file__).with_name("Snakefile")
MODEL = dict.fromkeys(("base", "lm_eval", "training", "accelerate"))
SETTINGS = dict.fromkeys(("output", "questions", "trained", "elsewhere", "draws", "right", "seed", "odd"))
ROWS = {"kinds": None, "rows": None, "wordings": None}
SETTINGS |= (
    dict.fromkeys(("learning_rates", "seeds", "epochs"))
    | {"detection": ROWS, "training": ROWS}
    | {"models": {ANY: MODEL | {"model_args": None}}}
)


def read_settings(file: Path) -> dict[str, Any]:
    """The settings of a file.

    Raises:
        UserError: one is missing or unknown, or neither a world nor wordings say how facts are stated.
    """
    settings = read_yaml(file)
    refuse_unknown(settings, SETTINGS | {"world": None, "wordings": None}, str(file))
    lacking = [name for name in SETTINGS if name not in settings]
    lacking += [f"models.{name}.{key}" for name, own in settings.get("models", {}).items() for key in MODEL if key not in own]
    lacking += [] if {"world", "wordings"} & {*settings} else ["world or wordings"]
    if lacking:
        raise UserError(f"{file} lacks {', '.join(lacking)}. recipes/agreement/miniworld.yaml has them all.")
    return settings


def main(
    context: typer.Context,
    settings: Annotated[Path, typer.Argument(help="The settings; see recipes/agreement/miniworld.yaml.")],
) -> None:
    """Judge instruction data of known truth, train on it, print the tables. Other options go to Snakemake (-n: the plan)."""
    with report_errors():
        output = Path(read_settings(settings)["output"])
        if run_workflow(SNAKEFILE, settings, output, context.args):
            for file in sorted(output.glob(f"*/*/tables/{TABLES}")):
                print(f"# {file.parents[1].relative_to(output)}\n\n{file.read_text()}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)
    app()
