"""The checks of `python -m tests.gpu`, in the order in which they are run: by what is most worth knowing of a GPU."""

from typing import NamedTuple


class Check(NamedTuple):
    """One check.

    Attributes:
        name: as the command line and the table say it.
        runs: the function that is called with a `Bench` and yields rows, as `module:function`.
        asks: what it asks, for the table.
        seconds: that it takes at most on a large GPU. It is begun where these are left, and ended after twice as many.
    """

    name: str
    runs: str
    asks: str
    seconds: float


CHECKS = (
    Check("machine", "tests.gpu.rates:describe_machine", "which card, which libraries, how fast it multiplies and copies", 25),
    Check("asking", "tests.gpu.asked:ask_questions", "2,000 questions, 5-shot, of a model of 7B", 120),
    Check("full", "tests.gpu.trained:train_layers", "full fine-tuning of two layers of 7B", 50),
    Check("full-1b", "tests.gpu.trained:train_1b", "full fine-tuning of 1B", 50),
    Check("lora", "tests.gpu.trained:train_lora", "LoRA of 7B", 60),
    Check("qlora", "tests.gpu.trained:train_qlora", "QLoRA of 7B", 90),
    Check("batches", "tests.gpu.trained:compare_batches", "rows a micro-batch, LoRA of 7B, rows of 300 tokens", 60),
    Check("fsdp2", "tests.gpu.launched:resume_fsdp2", "FSDP2 on one GPU: launched, killed, gone on with", 110),
    Check("orders", "tests.gpu.asked:ask_orders", "200 questions in four orders, of a model of 7B", 60),
    Check("profile", "tests.gpu.profiled:profile_rows", "what a batch of rows costs: waits, transfers, copies", 50),
    Check("attention", "tests.gpu.attention:compare_attention", "flash attention and SDPA, with and without padding", 40),
    Check("memory", "tests.gpu.limits:lack_memory", "batches that do not fit; the loss of a large vocabulary", 60),
    Check("pretraining", "tests.gpu.trained:pretrain_miniature", "the miniature base's pretraining, a few steps", 40),
    Check(
        "qlora-launch", "tests.gpu.launched:launch_qlora", "QLoRA of the miniature base, launched, with a paged optimizer", 40
    ),
    Check(
        "prediction", "tests.gpu.profiled:predict_runs", "what hf-prefix takes of an H100 and an H200, counted without one", 60
    ),
)
