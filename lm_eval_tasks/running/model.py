"""Whether the model that is named can be loaded and asked here, known before its weights are read."""

import importlib.util
import logging
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.registry import model_registry
from transformers import AutoConfig, PreTrainedConfig
from transformers.quantizers import AutoHfQuantizer

from lm_eval_tasks.checking.tokenizer import list_options
from lm_eval_tasks.contracts.bases import computes_bf16, find_gguf
from lm_eval_tasks.contracts.errors import UserError

ENGINES = ("vllm", "vllm-prefix")  # models that vLLM loads
OWN_FILES = ("hf", "hf-auto", "huggingface", "hf-prefix")  # models that transformers loads

logger = logging.getLogger(__name__)


def check_model(model: str, arguments: Mapping[str, Any], device: str | None = None) -> None:
    """Raise a `UserError` where `--model` is unknown, or `--model_args` name what is not there or cannot be loaded here.

    What is loaded, and is other or slower than one may think, is said.

    Args:
        model: the name of a class of lm-eval.
        arguments: the model's.
        device: where it will be asked, as `--device` says.
    """
    if model not in model_registry:
        near = ", ".join(get_close_matches(model, model_registry, n=3)) or ", ".join(sorted(model_registry))
        raise UserError(f"lm-eval has no --model {model!r}; it has {near}.")
    if model in ENGINES:
        check_installed(model)
    for name in ("pretrained", "peft", "tokenizer"):
        value = arguments.get(name)
        # A Hub id is a name, or an owner and a name.
        is_path = isinstance(value, str) and (value.startswith((".", "/", "~")) or value.count("/") > 1)
        if is_path and not Path(value).exists():
            what = "model" if name == "pretrained" else name
            raise UserError(f"the {what} folder {value} does not exist. Name a folder that holds a {what}, or a Hub id.")
    pretrained = arguments.get("pretrained")
    if model in OWN_FILES and isinstance(pretrained, str):
        check_gguf(pretrained, arguments.get("gguf_file"))
        config = read_config(pretrained, arguments)
        check_quantised(pretrained, config)
        tell_bf16(pretrained, arguments, config, device)


def check_installed(model: str) -> None:
    """Raise a `UserError` where vLLM is not installed under the name by which lm-eval looks for it."""
    try:
        version("vllm")
    except PackageNotFoundError as error:
        raise UserError(
            f"--model {model} needs the package vllm, which is not installed here: lm_eval_tasks/README.md says how to. Or ask "
            "with --model hf-prefix, which gives the same numbers."
        ) from error


def check_gguf(pretrained: str, given: str | None) -> None:
    """Raise a `UserError` where weights in a GGUF file are not named as transformers reads them, or cannot be read here."""
    if not given:
        if file := find_gguf(pretrained):
            raise UserError(
                f"{pretrained} holds its weights as a GGUF file: it is asked with --model_args "
                f"pretrained={file.parent},gguf_file={file.name} (the package gguf reads it). A copy is trained from the "
                "expanded weights alone: to train one, write them out first (recipes/README.md says how), and ask that folder."
            )
        return
    if not importlib.util.find_spec("gguf"):
        raise UserError(f"gguf_file={given}: the package gguf, which reads such a file, is not installed: pip install gguf.")
    if Path(pretrained).is_dir() and not (Path(pretrained) / given).is_file():
        there = ", ".join(sorted(file.name for file in Path(pretrained).glob("*.gguf"))[:3]) or "no GGUF file"
        raise UserError(f"gguf_file={given} is not in {pretrained}, which has {there}. Mend it in --model_args.")


def read_config(pretrained: str, arguments: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration of a model.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(pretrained, **dict(list_options(arguments)))
    except (OSError, ValueError) as error:
        where = (
            "has no configuration that can be read"
            if Path(pretrained).is_dir()
            else "is no model folder here, and the Hub did not give it"
        )
        raise UserError(f"{pretrained!r} {where}: {_shorten(error)}.") from error


def check_quantised(pretrained: str, config: PreTrainedConfig) -> None:
    """Say that a model is quantised; raise a `UserError` where such weights cannot be read here."""
    found = (getattr(part, "quantization_config", None) for part in (config, config.get_text_config()))
    if not (settings := next(filter(None, found), None)):
        return
    settings = settings if isinstance(settings, dict) else settings.to_dict()
    method = settings.get("quant_method", "in some way")
    try:
        AutoHfQuantizer.from_config(dict(settings), pre_quantized=True).validate_environment(device_map=None, weights_only=True)
    except (ImportError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{pretrained} is quantised ({method}), and cannot be loaded here: {_shorten(error)}. Or name the model as it was "
            "before it was quantised."
        ) from error
    logger.warning(
        "%s is quantised (%s): what is asked is the rounded model. Train and ask again from the same weights.",
        pretrained,
        method,
    )


def tell_bf16(pretrained: str, arguments: Mapping[str, Any], config: PreTrainedConfig, device: str | None) -> None:
    """Say where a model is asked in bfloat16 on a processor that has no arithmetic for it."""
    dtype = arguments.get("dtype", "auto")
    if dtype == "auto":  # that of its weights
        dtype = config.get_text_config().dtype
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    on_cpu = device.startswith("cpu") if device else not gpu
    if str(dtype).rpartition(".")[2] == "bfloat16" and on_cpu and not computes_bf16(torch.cpu.get_capabilities()):
        logger.warning(
            "%s is asked in bfloat16, and this processor has neither AVX512-BF16 nor AMX: slower than in fp32. Where memory "
            "allows, add dtype=float32 to --model_args, before and after alike.", pretrained,
        )  # fmt: skip


def _shorten(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
