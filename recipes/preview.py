"""Show what a model is trained on beside what it will be asked, token by token, the conditions side by side.

python -m recipes.preview runs/miniworld/miniature/herbs/instructions/seed-1 --tokenizer recipes/miniworld/base
python -m recipes.preview FOLDER --tokenizer T --config herbs_harmonious --config herbs_contextualized --rows 1 --html page.html

Training is what `recipes/sft.py` trains, with the loss on the coloured tokens. Evaluation is the prompt that
lm-eval writes for the chat task and tokenizes, under the tokenizer's own chat template where the chat tasks take it (a chat
model's they refuse, and training replaces it), and the choice that is scored after it. With --questions the question is taken
from the question set and written anew; else it is the user's turn of the row or, where that begins with knowledge, of another
condition's row of the same question. Of instruction data that is no instruction set training alone is shown, rows with weights
or masks first.
"""

from pathlib import Path
from typing import Annotated

import typer

from lm_eval_tasks.contracts.errors import UserError, report_errors
from lm_eval_tasks.contracts.files import write_file
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from lm_eval_tasks.contracts.public import make_public


def main(
    folder: Annotated[
        str, typer.Argument(help="An instruction set or instruction data: a folder, a name on the Hub, or a file of data.")
    ],
    tokenizer: Annotated[str, typer.Option(help="The tokenizer: a model's folder, or a name on the Hub.")],
    config: Annotated[list[str], typer.Option(help="DOMAIN_CONDITION; repeatable [default: all].")] = [],  # noqa: B006
    rows: Annotated[int, typer.Option(min=1, help="Questions of each config, or rows of data.")] = 2,
    questions: Annotated[
        str | None, typer.Option(help="The question set, from which evaluation prompts are written anew.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="A page to write, which needs no other file.")] = None,
    max_length: Annotated[int, typer.Option(min=1, help="The recipe's max_length, in tokens.")] = 2048,
    add_bos_token: Annotated[
        bool | None, typer.Option(help="As a recipe's add_bos_token [default: what the tokenizer does].")
    ] = None,
) -> None:
    """Show training texts with their loss mask beside the evaluation prompts of the same questions, token by token.

    \b
    Example:
      python -m recipes.preview runs/miniworld/miniature/herbs/instructions/seed-1 --tokenizer recipes/miniworld/base \\
        --config herbs_harmonious --config herbs_self_aligning --rows 1 --html page.html
    """
    with report_errors():
        import datasets

        from recipes.showing.display import print_sections, write_page
        from recipes.showing.pairing import choose_rows, compare_rows, read_docs, read_sets
        from recipes.showing.responses import show_responses
        from recipes.showing.sequences import Asker, ends_as_asked
        from recipes.training.arguments import RecipeArguments
        from recipes.training.rows import read_rows
        from recipes.training.tokens import load_tokenizer

        datasets.disable_progress_bars()
        sets = read_sets(folder, config)
        if not sets and (questions or len(config) > 1):
            raise UserError(f"{folder} is no instruction set, so that it takes no --questions, and one --config at most.")
        chosen = choose_rows(sets, rows)
        docs = read_docs(questions, list(chosen)) if questions else None
        loaded = load_tokenizer(tokenizer)
        if loaded.chat_template and not ends_as_asked(loaded):
            loaded.chat_template = None
            print(
                f"{tokenizer} has a chat template of its own, with which the chat tasks refuse to ask. Training "
                "replaces it, and shown is how the trained model is asked. Ask the base with `python -m lm_eval_tasks run "
                "--chat_template`."
            )
        asker = Asker(loaded, add_bos_token)
        loaded.chat_template = CHAT_TEMPLATE.read_text()  # training does not use the tokenizer's own
        if sets:
            sections = compare_rows(chosen, docs, loaded, asker, max_length)
        else:
            own = read_rows(RecipeArguments(dataset_name=folder, dataset_config=config[0] if config else None))
            sections = show_responses(own, rows, asker, loaded, max_length)
        print_sections(sections)
        if html:
            with write_file(html) as file:
                file.write_text(write_page(sections, f"Preview of {make_public(folder)}"), encoding="utf-8", errors="replace")
            print(f"{html}: the page")
        if found := [f"{cell.title}: {warning}" for section in sections for cell in section.cells for warning in cell.warnings]:
            print(f"\n{len(found)} warnings; the first: {found[0]}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    app()
