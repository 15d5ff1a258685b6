"""What a check is given, and the two kinds of rows that it yields: figures, and claims that hold or do not."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
Row = dict[str, object]


@dataclass(frozen=True)
class Bench:
    """Where a check runs.

    Args:
        tiny: whether it is rehearsed with tiny models on a CPU.
        scratch: an empty folder, deleted afterwards.
    """

    tiny: bool
    scratch: Path

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return "cpu" if self.tiny else "cuda"

    def choose(self, large: T, tiny: T) -> T:
        """What a GPU is given, or a rehearsal."""
        return tiny if self.tiny else large

    def claim(self, said: str, wanted: object, found: object, holds: bool, gpu: bool = False) -> Row:
        """A claim.

        Args:
            said: what is claimed.
            wanted: what was predicted or is asked for.
            found: what was measured.
            holds: whether that is so.
            gpu: whether only a GPU can tell, so that a rehearsal does not judge.
        """
        wanted, found = (float(f"{one:.3g}") if isinstance(one, float) else one for one in (wanted, found))
        return {"claim": said, "wanted": wanted, "found": found, "holds": None if gpu and self.tiny else bool(holds)}
