"""Logs of the answer tasks, as lm-eval writes them, with made-up answers."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def write_answer_log(
    file: Path, questions: Sequence[dict[str, Any]], say: Callable[[dict[str, Any]], list[str]], **names: object
) -> Path:
    """A log of selfalign_answer (or, with `greedy`, of selfalign_answer_greedy): what `say` says to each question.

    Args:
        file: the log.
        questions: free-form ones, with `split` and `question_hash`.
        say: the answers to a question, of which greedy ones have one.
        **names: what the task logs beside them; the base model's few-shot samples at temperature 0.7 where they do not say.
    """
    greedy = bool(names.get("greedy"))
    settings = {"greedy": False, "temperature": 0.0 if greedy else 0.7, "draw": 0, "phase": "base_probe", "model": "base"}
    settings |= {"run": ""} | names
    chat = str(settings["phase"]).endswith("_chat")
    task = f"selfalign_answer{'_greedy' if greedy else ''}{'_chat' if chat else ''}"
    docs = [row | {"samples": say(row), "task": task} | settings for row in questions]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"doc_id": i, "doc": doc}) + "\n" for i, doc in enumerate(docs)))
    return file
