"""What a batch of `hf-prefix` costs (waits, transfers, copies, log-probabilities), and how fast it should be.

What is counted on a model without numbers (see `predicting`) is the prediction; on a GPU PyTorch's profiler tests it.
"""

import time
from collections import Counter
from collections.abc import Iterator

import torch
from probing import TOKENIZER
from sides import Sizes, Writer
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from transformers import AutoTokenizer, PreTrainedConfig

from lm_eval_tasks.models.reader import TreeReader
from lm_eval_tasks.models.tree import Input, PackedRow, Trunk
from tests.gpu.bench import Bench, Row
from tests.gpu.predicting import Counted, Plan, count_batches, plan_prompts
from tests.gpu.rates import DATASHEETS, REACHED, measure_bandwidth, measure_rate, wait
from tests.gpu.shapes import make_7b, make_asked

LETTERS = [[1], [2], [3], [4]]  # of a made-up question
LAUNCH = 15e-6  # seconds in which the host launches an operator of the library's models, about
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
READS = ("aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero")


def profile_rows(bench: Bench) -> Iterator[Row]:
    """Counts of batches of a model of 7B."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    config, prompts = make_7b(bench.tiny), Writer(tokenizer).write_prompts(bench.choose(2000, 200), Sizes())
    yield from count_reads(bench)
    yield from judge_batch(bench, config, plan_prompts(config, tokenizer, prompts))


def predict_runs(bench: Bench) -> Iterator[Row]:
    """What `hf-prefix` takes on GPUs of which the datasheet is known; a rehearsal predicts the same model of 7B."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    runs = {
        "2,000 questions": Writer(tokenizer).write_prompts(2000, Sizes()),
        "200 in four orders": Writer(tokenizer, 1).write_cyclic(200, Sizes()),
    }
    for name, prompts in runs.items():
        yield from predict_run(bench, make_7b(), name, plan_prompts(make_7b(), tokenizer, prompts))


def make_rows(n: int, trunk: tuple[int, ...], width: int) -> list[PackedRow]:
    """Rows of one question each, of one length."""
    rows = [PackedRow() for _ in range(n)]
    for number, row in enumerate(rows):
        row.add(Input((*trunk, 100 + number, *range(7, 6 + width))), len(trunk))
    return rows


def count_reads(bench: Bench) -> Iterator[Row]:
    """Operators of a real batch of few rows and of one of twice as many, by the profiler."""
    reader, trunk = TreeReader(make_asked(bench)), tuple(range(10, 42))
    shared, counts = reader.read_trunk(trunk), []
    for n in (8, 16):
        rows = make_rows(n, trunk, 12)
        asked = {item: LETTERS for row in rows for item in row.paths}
        with profile(activities=[ProfilerActivity.CPU]) as found:
            list(reader.read_rows(shared, rows, asked))
        counts.append(Counter({event.key: event.count for event in found.key_averages() if event.key.startswith("aten::")}))
        told = {"operators": sum(counts[-1].values()), "reads of a number": sum(counts[-1][name] for name in READS)}
        yield {"rows of a batch": n, **told, "log_softmax": counts[-1]["aten::_log_softmax"], "cat": counts[-1]["aten::cat"]}
    yield bench.claim("operators that 8 more rows add to a batch", 0, (counts[1] - counts[0]).total(), counts[0] == counts[1])
    reads = sum(counts[1][name] for name in READS)
    yield bench.claim("numbers that a batch reads one by one", 0, reads, reads == 0)


def predict_run(bench: Bench, config: PreTrainedConfig, name: str, plan: Plan) -> Iterator[Row]:
    """What a whole run counts, and what it takes on GPUs of which the datasheet is known."""
    prompts, batches = sum(len(row.paths) for _, rows in plan.batches for row in rows), len(plan.batches)
    runs = {
        card: count_batches(config, plan.batches, rate * REACHED[0], bandwidth * REACHED[1])
        for card, (rate, bandwidth) in DATASHEETS.items()
    }
    one = next(iter(runs.values()))
    yield {
        "run": name,
        "tokens": plan.tokens,
        "TFLOP": one.flops / 1e12,
        "batches": batches,
        "shapes": len(plan.shapes),
        "operators a batch": one.operators / batches,
        "transfers a batch": len(one.sent) / batches,
        "MB sent a batch": sum(one.sent) / batches / 1e6,
        "GB joined a batch": one.joined / batches / 1e9,
    }
    for card, counted in runs.items():
        yield {
            "run": name,
            "card": card,
            "GPU, s": counted.seconds,
            "of it products": counted.product_seconds / counted.seconds,
            "of it joining keys and values": counted.joined_seconds / counted.seconds,
            "of it launching": counted.operators * LAUNCH / counted.seconds,
            "host before, s": plan.host,
            "prompts a second": prompts / (plan.host + counted.seconds),
        }
    scored = sum(shape[0] for shape, _ in one.softmaxes)
    types = {str(dtype) for _, dtype in one.softmaxes}
    yield bench.claim(f"{name}: positions whose log-probabilities are taken, in float32", f"{prompts:,}", f"{scored:,}",
                      scored == prompts and types == {"torch.float32"})  # fmt: skip


def judge_batch(bench: Bench, config: PreTrainedConfig, plan: Plan) -> Iterator[Row]:
    """The claims about one full batch: what is predicted and, on a GPU, what is found."""
    trunk, rows = plan.batches[len(plan.batches) // 2]
    counted = count_batches(config, [(trunk, rows)], measure_rate(bench), measure_bandwidth(bench), trunks=False)
    asked = {item: LETTERS for row in rows for item in row.paths}
    tokens = len(rows) * max(len(row.tokens) for row in rows)
    yield {"batch": f"{len(asked)} prompts in {len(rows)} rows", "tokens": tokens, "operators": counted.operators,
           "TFLOP": counted.flops / 1e12, "sent, MB": sum(counted.sent) / 1e6,
           "keys and values joined, GB": counted.joined / 1e9, "GPU predicted, ms": 1000 * counted.seconds}  # fmt: skip
    share = counted.joined_seconds / counted.seconds
    yield bench.claim("GPU time in which keys and values of the trunk are joined to those of each row, predicted",
                      "at most 0.1", share, share <= 0.1, gpu=True)  # fmt: skip
    yield bench.claim("log-probabilities of a batch: positions, type", f"{len(asked)}, float32",
                      ", ".join(f"{shape[0]}, {str(dtype)[6:]}" for shape, dtype in counted.softmaxes),
                      counted.softmaxes == [((len(asked), config.vocab_size), torch.float32)])  # fmt: skip
    launching = counted.operators * LAUNCH
    yield bench.claim("launching a batch's operators, of the time that the GPU has work, predicted", "at most 0.25",
                      launching / counted.seconds, launching <= counted.seconds / 4, gpu=True)  # fmt: skip
    yield bench.claim("transfers of a batch to the GPU, predicted", "at most 6", len(counted.sent), len(counted.sent) <= 6)
    yield from measure_batch(bench, trunk, rows, counted)


def measure_batch(bench: Bench, trunk: Trunk, rows: list[PackedRow], counted: Counted) -> Iterator[Row]:
    """What a batch really takes, against what was counted of it."""
    asked = {item: LETTERS for row in rows for item in row.paths}
    reader = TreeReader(make_asked(bench))
    shared = reader.read_trunk(trunk.tokens)
    list(reader.read_rows(shared, rows, asked))
    wait(bench.device)
    start = time.perf_counter()
    answers = reader.read_rows(shared, rows, asked)
    begun = time.perf_counter() - start
    list(answers)
    took = time.perf_counter() - start
    kinds = [ProfilerActivity.CPU, *([] if bench.tiny else [ProfilerActivity.CUDA])]
    with profile(activities=kinds) as found:
        list(reader.read_rows(shared, rows, asked))
    events = found.key_averages()
    busy = sum(event.self_device_time_total for event in events if event.device_type == DeviceType.CUDA) / 1e6
    waits, pageable, sent = (
        sum(event.count for event in events if event.key.startswith(part))
        for part in (WAITS, "Memcpy HtoD (Pageable", "Memcpy HtoD")
    )
    yield bench.claim("times that the host waits in a batch", "at most 1", waits, waits <= 1, gpu=True)
    yield bench.claim("transfers of a batch to the GPU", len(counted.sent), sent, sent <= len(counted.sent), gpu=True)
    yield bench.claim("of them, from memory that is not pinned", 0, pageable, pageable == 0, gpu=True)
    yield bench.claim("a batch, ms", f"{1000 * counted.seconds:.3g} (within 25%)", 1000 * took,
                      abs(took / counted.seconds - 1) < 0.25, gpu=True)  # fmt: skip
    yield bench.claim(
        "the host is free again after, of a batch's time", "at most 0.5", begun / took, begun <= took / 2, gpu=True
    )
    yield bench.claim("the GPU is at work, of a batch's time", "at least 0.9", busy / took, busy >= 0.9 * took, gpu=True)
