"""How far training moved a model on rows: the divergence of the tuned model from its base, token by token.

python -m recipes.agreement.drift rows.jsonl --base BASE --tuned MODEL --output drift.json
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lm_eval_tasks.contracts.files import write_file
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.commands import run_command
from recipes.training.arguments import RecipeArguments
from recipes.training.masks import IGNORED
from recipes.training.rows import read_rows
from recipes.training.tokens import load_tokenizer, prepare_rows

LONGEST = 2048  # tokens of a row


def measure_drift(base: Any, tuned: Any, rows: Any) -> tuple[float, int]:
    """KL(base || tuned) in nats, the mean over the tokens that carry a loss; and how many these are.

    Args:
        base: a causal language model.
        tuned: another of the same vocabulary.
        rows: `input_ids` and `labels`, as `prepare_rows` gives them.
    """
    import torch

    total, tokens = 0.0, 0
    with torch.inference_mode():
        for row in rows:
            ids, places = torch.tensor([row["input_ids"]]), [i - 1 for i, label in enumerate(row["labels"]) if label != IGNORED]
            ours, theirs = (model(ids).logits[0, places].double().log_softmax(-1) for model in (base, tuned))
            total += float((ours.exp() * (ours - theirs)).sum())
            tokens += len(places)
    return total / tokens, tokens


def main(
    data: Annotated[Path, typer.Argument(help="The rows.")],
    base: Annotated[str, typer.Option(help="The base model.")],
    tuned: Annotated[Path, typer.Option(help="The folder of the model that was trained.")],
    output: Annotated[Path, typer.Option(help="The file to write (JSON).")],
) -> None:
    """Write KL(base || tuned), the mean over the response tokens of rows.

    \b
    Example:
      python -m recipes.agreement.drift rows/rows.jsonl --base MODEL --tuned TUNED --output drift.json
    """
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    rows = prepare_rows(tokenizer, read_rows(RecipeArguments(dataset_name=str(data))), LONGEST)
    models = [AutoModelForCausalLM.from_pretrained(name).eval() for name in (base, str(tuned))]
    divergence, tokens = measure_drift(*models, rows)
    with write_file(output) as file:
        file.write_text(json.dumps({"kl_nats": divergence, "tokens": tokens, "rows": len(rows)}) + "\n")
    print(f"{output}: KL(base || tuned) {divergence:.3f} nats a token, over {tokens} response tokens of {len(rows)} rows")


if __name__ == "__main__":
    run_command(main)
