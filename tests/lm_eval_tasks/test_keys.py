"""A key of --metadata that nothing looks up is refused with the one that is meant."""

import inspect

import pytest
from lm_eval.models.api_models import TemplateAPI
from lm_eval.models.huggingface import HFLM

from lm_eval_tasks import answering, benchmarks, generation, sets
from lm_eval_tasks.checking.keys import KEYS, MODEL_KEYS, OWN_KEYS, check_keys, check_typos
from lm_eval_tasks.contracts.errors import UserError

LOADERS = (sets.load_questions, sets.describe_run, generation.load_requests, answering.load_free_form)
LOADERS += (benchmarks.load_mmlu, benchmarks.load_cmmlu, benchmarks.load_ceval)


def test_every_key_that_a_loader_takes_is_known() -> None:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    taken = {
        name for loader in LOADERS for name, value in inspect.signature(loader).parameters.items() if value.kind not in kinds
    }
    assert taken <= {*KEYS, *MODEL_KEYS, *OWN_KEYS}
    assert set(KEYS) <= taken | {"too_long", "too_long_to", "may_leave_out", "samples", "temperature"}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("spilts", r"--metadata has no key 'spilts' \(is 'splits' meant\?\)"),
        ("trained-on", r"'trained-on' \(is 'trained_on' meant\?\)"),
        ("top_p", "--metadata has no key 'top_p'"),
        ("scoring", "scoring is fixed by each task's own file"),
    ],
)
def test_an_unknown_key_of_the_command_line_is_refused(key: str, message: str) -> None:
    check_keys(["questions", "splits", "tokenizer"])
    with pytest.raises(UserError, match=message):
        check_keys(["questions", key])


def test_a_model_may_have_arguments_of_any_name() -> None:
    for model in (HFLM, TemplateAPI):
        check_typos(inspect.signature(model.__init__).parameters, "task")
    check_typos(["gpu_memory_utilization", "tensor_parallel_size", "data_parallel_size", "max_gen_toks"], "task")
    with pytest.raises(UserError, match="task: nothing looks up 'question' in --metadata; 'questions' is meant"):
        check_typos(["pretrained", "question"], "task")
