"""Numbers on their way to a device and back, such that neither the host nor the device waits for the other without need."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

Task = TypeVar("Task")


def send(numbers: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Numbers of the host on a device; a GPU takes them from pinned memory while the host goes on."""
    if device.type == "cuda":
        return numbers.pin_memory().to(device, non_blocking=True)
    return numbers.to(device)


def fetch(numbers: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Begin to bring numbers to the host; the call of what is returned waits for them, and for nothing that is begun later."""
    if numbers.device.type != "cuda":
        return numbers.cpu
    copy, arrived = numbers.to("cpu", non_blocking=True), torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(numbers.device))

    def wait() -> torch.Tensor:
        arrived.synchronize()
        return copy

    return wait


def run_ahead(tasks: Iterable[Task], begin: Callable[[Task], Callable[[], None]]) -> Iterator[Task]:
    """Begin each task before the one ahead of it is ended, so that a GPU has work while the host reads and prepares.

    Args:
        tasks: in their order.
        begin: sets a task to work, and returns what ends it.

    Yields:
        The tasks that have ended.
    """
    ahead: tuple[Task, Callable[[], None]] | None = None
    for task in tasks:
        following = task, begin(task)
        if ahead:
            ahead[1]()
            yield ahead[0]
        ahead = following
    if ahead:
        ahead[1]()
        yield ahead[0]
