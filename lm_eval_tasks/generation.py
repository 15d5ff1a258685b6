"""What lm-eval calls to have a model write about questions: where the requests come from, and what is logged of a text.

The tasks are in `generation/`; `contracts/logs/generations.py` reads what they log.
"""

from collections.abc import Mapping
from typing import Any

import datasets
import polars as pl
from lm_eval.api.instance import Instance

from lm_eval_tasks.checking.adapter import check_adapter
from lm_eval_tasks.checking.checked import CheckedTask
from lm_eval_tasks.checking.keys import check_typos
from lm_eval_tasks.checking.rendering import make_writer
from lm_eval_tasks.checking.tokenizer import load_tokenizer
from lm_eval_tasks.checking.too_long import read_choice
from lm_eval_tasks.checking.writing import find_own_limit, leave_out_long
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.generations import end_text, extract_fenced, is_closed
from lm_eval_tasks.contracts.logs.requests import COMMANDS, Kind, read_requests
from lm_eval_tasks.contracts.prompts import FENCE
from lm_eval_tasks.contracts.questions import name_question, read_questions
from lm_eval_tasks.contracts.vocabulary import KEY
from lm_eval_tasks.sets import find_folder


def load_requests(
    task: str,
    kind: Kind,
    requests: str | None = None,
    questions: str | None = None,
    pretrained: str = "",
    model: str = "",
    **_: Any,
) -> dict[str, datasets.Dataset]:
    """The requests that a task asks (`test`), with the columns of a sample.

    Args:
        task: the task's name.
        kind: what is asked for; set by the task.
        requests: a requests file, or a folder of them.
        questions: where given, the question set that every request has to be of, in the same text.
        pretrained: the model that writes, from `--model_args`.
        model: the same, where the model is behind an API.

    Raises:
        UserError: no requests, or requests that break their contract or are of another question set.
    """
    if not requests:
        raise UserError(
            f"""{task}: no requests. Write them with `python -m intervention {COMMANDS[kind]}`, and name the file with """
            """--metadata '{"requests": "FILE"}'."""
        )
    table = read_requests(requests, kind)
    if questions and kind == "claims":
        raise UserError(f"{task} writes about instruction data, not about questions. Leave questions out of --metadata.")
    if questions:
        own = read_questions(find_folder(questions)).select(*KEY, "question_hash")
        strangers = table.join(own, on=[*KEY, "question_hash"], how="anti", maintain_order="left")
        if strangers.height:
            first = name_question(strangers.row(0, named=True))
            raise UserError(
                f"{requests}: {strangers.height} of {table.height} requests are not of {questions}, or of another version of "
                f"it; the first is {first}. Write the requests again."
            )
    table = table.with_columns(model=pl.lit(str(pretrained or model)), task=pl.lit(task))
    return {"test": datasets.Dataset(table.to_arrow())}


class GenerationTask(CheckedTask):
    """A task whose answer is a text between fences.

    What it looks up in `metadata`: what `load_requests` takes, and `too_long`, `too_long_to` (see README.md).
    """

    def __init__(self, config: dict[str, Any], **kwargs: Any) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        config["metadata"] = config["metadata"] | {"task": config["task"]}
        check_typos(config["metadata"], config["task"])
        super().__init__(config=config, **kwargs)

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> Instance:
        """lm-eval's request, which does not stop at a fence where a chat model answers.

        Such a model ends its turn by itself, and may begin it by opening a fence of its own, where it would be stopped.
        """
        chat = kwargs.get("apply_chat_template", False)
        instance = super().construct_requests(doc, ctx, **kwargs)
        settings = instance.arguments[1]
        if chat:
            settings["until"] = [stop for stop in settings["until"] if FENCE not in stop]
        return instance

    def check_asked(self, settings: Mapping[str, Any]) -> None:
        """Raise a `UserError` where a prompt cannot be written, or prompt and text exceed the model's window.

        lm-eval would cut the beginning of such a prompt. Its question is left out instead, where `--metadata` says so.
        """
        metadata, limit = self.config.metadata, int(self.config.generation_kwargs["max_gen_toks"])
        check_adapter(metadata)
        choice = read_choice(self)
        rows, write = self.list_asked(settings), make_writer(self, settings)
        leave_out_long(self, [(row, write(row)) for row in rows], limit, choice)

    def find_limit(self) -> int:
        """How many tokens a text can have: what the task says, or less where the model's own settings say so."""
        metadata, limit = self.config.metadata, int(self.config.generation_kwargs["max_gen_toks"])
        return min(limit, find_own_limit(metadata.get("pretrained"), str(metadata.get("revision") or "main")) or limit)

    def process_results(self, doc: dict[str, Any], results: list[str]) -> dict[str, float]:
        """Log whether the model ended the text itself, then what `log_text` logs."""
        doc["finished"] = self.find_end(results[0])
        return super().process_results(doc, results)

    def find_end(self, response: str) -> bool | None:
        """Whether a model ended its text itself; None where that cannot be known.

        lm-eval passes on neither the fence at which a text was stopped nor the reason why a backend stopped. But a text that
        was cut is as long as the limit, and so longer than it with a fence; where the tokenizer is known, that can be counted.
        """
        if is_closed(response):
            return True
        if (tokenizer := load_tokenizer(self.config.metadata)) is None:
            return None
        return len(tokenizer(f"{response}\n{FENCE}", add_special_tokens=False)["input_ids"]) <= self.find_limit()


def log_text(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Log the text beside its question, ended as `end_text` says, and return the metrics of lm-eval's own result table."""
    return _log(doc, end_text(extract_fenced(results[0]), doc.get("finished")))


def log_lines(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """As `log_text`, but the text is lines, of which two may end alike."""
    return _log(doc, extract_fenced(results[0]))


def _log(doc: dict[str, Any], text: str) -> dict[str, float]:
    doc["text"] = text
    return {"words": float(len(doc["text"].split())), "empty": float(not doc["text"])}
