"""`python -m tests.gpu --minutes 9 --output DIR`: what a GPU does with this project, the most valuable checks first.

DIR/table.md is written anew after each check, with what was predicted beside what was found; DIR/rows.jsonl holds the same,
DIR/<check>.log what a check printed.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[2]))

from lm_eval_tasks.contracts.errors import UserError, report_errors
from tests.gpu.checks import CHECKS
from tests.gpu.running import run_checks


def main(
    output: Annotated[Path, typer.Option(help="Folder of the table, its rows and the checks' logs.")],
    minutes: Annotated[float, typer.Option(min=0, help="After these the command ends; what did not fit in is named.")] = 9,
    tiny: Annotated[bool, typer.Option(help="Rehearse with tiny models on a CPU: what a clock decides is not judged.")] = False,
    names: Annotated[list[str] | None, typer.Argument(metavar="[CHECK]...", help="Run these alone [default: all].")] = None,
) -> None:
    """Run the checks, each in a process of its own. Exit status: 0 where all that ran holds, else 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no check is left behind
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    with report_errors():
        if unknown := set(names or ()) - {check.name for check in CHECKS}:
            raise UserError(f"no check is called {', '.join(sorted(unknown))}. There are {', '.join(c.name for c in CHECKS)}.")
        if not tiny:
            check_gpu()
        chosen = [check for check in CHECKS if not names or check.name in names]
        raise SystemExit(0 if run_checks(chosen, 60 * minutes, output, tiny) else 1)


def check_gpu() -> None:
    """See that there is a GPU.

    Raises:
        UserError: there is none that PyTorch finds.
    """
    import torch  # seconds, which a rehearsal need not wait for

    if not torch.cuda.is_available():
        raise UserError(f"PyTorch {torch.__version__} finds no CUDA device here. Rehearse on the CPU with --tiny.")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
