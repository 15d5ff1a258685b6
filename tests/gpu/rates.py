"""The machine: which card and libraries it has, how fast it multiplies matrices and copies memory."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import torch

from tests.gpu.bench import Bench, Row

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "lm-eval", "bitsandbytes")
# Of the datasheets, dense: bf16 FLOP/s, bytes/s. What a large product and a large copy reach of them is about these shares.
DATASHEETS = {"H100 SXM": (989e12, 3.35e12), "H200": (989e12, 4.8e12)}
REACHED = (0.75, 0.88)


def name_device(bench: Bench) -> str:
    """The card, or the processor."""
    return platform.processor() or platform.machine() if bench.tiny else torch.cuda.get_device_name()


def time_calls(run: Callable[[], object], device: str, times: int) -> float:
    """Seconds of a call: the mean of some after one that sets up."""
    run()
    wait(device)
    start = time.perf_counter()
    for _ in range(times):
        run()
    wait(device)
    return (time.perf_counter() - start) / times


def wait(device: str) -> None:
    """Wait until a device has nothing more to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def measure_rate(bench: Bench) -> float:
    """FLOP/s of a large product of random matrices in bf16."""
    side = bench.choose(8192, 512)
    one, other = (torch.randn(side, side, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / time_calls(lambda: one @ other, bench.device, bench.choose(20, 2))


def measure_bandwidth(bench: Bench) -> float:
    """Bytes a second of a large copy, read and written ones counted."""
    source = torch.empty(bench.choose(2**32, 2**24), device=bench.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * source.numel() / time_calls(lambda: target.copy_(source), bench.device, bench.choose(10, 2))


def describe_machine(bench: Bench) -> Iterator[Row]:
    """What stands here, then what it does."""
    memory = f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB" if not bench.tiny else "-"
    yield {"card": name_device(bench), "memory": memory, "CUDA": torch.version.cuda or "-", "Python": platform.python_version()}
    yield {"processors": len(os.sched_getaffinity(0)), "threads": torch.get_num_threads()}
    for name in LIBRARIES:
        yield {"library": name, "version": find_version(name)}
    rate = measure_rate(bench)
    yield bench.claim("bf16 matrix products, TFLOP/s", "at least 500", rate / 1e12, rate > 500e12, gpu=True)
    bandwidth = measure_bandwidth(bench)
    yield bench.claim("a copy, TB/s", "at least 2", bandwidth / 1e12, bandwidth > 2e12, gpu=True)


def find_version(name: str) -> str:
    """Which version of a library is installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
