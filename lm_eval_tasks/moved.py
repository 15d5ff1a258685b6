"""Names of the version before, for one version: a user's YAML that says `!function lm_eval_tasks.prompts.write_listing` works,
with a warning that says where the name is now.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_CONTRACTS, _LOGS = "lm_eval_tasks.contracts", "lm_eval_tasks.contracts.logs"
# A module of then, and where its names are now, looked through in this order.
MODULES: dict[str, tuple[str, ...]] = {
    **{f"lm_eval_tasks.{name}": (f"{_CONTRACTS}.{name}",) for name in ("prompts", "published", "questions", "subjects")},
    **{
        f"lm_eval_tasks.{name}": (f"{_LOGS}.{name}",) for name in ("averages", "generations", "lines", "probe_table", "results")
    },
    "lm_eval_tasks.samples": (f"{_LOGS}.samples", f"{_LOGS}.probe_table", f"{_LOGS}.averages"),
    "lm_eval_tasks.manifest": (f"{_CONTRACTS}.manifest", f"{_CONTRACTS}.files", f"{_CONTRACTS}.errors"),
    "lm_eval_tasks.probes": (f"{_LOGS}.scores",),
    "lm_eval_tasks.generate": ("lm_eval_tasks.generation",),
    "lm_eval_tasks.prefix": ("lm_eval_tasks.models.prefix",),
}
# A name of then in a module that is still there, and its name now.
NAMES: dict[str, str] = {
    "lm_eval_tasks.metrics.Row": "lm_eval_tasks.metrics.AnswerValue",
    "lm_eval_tasks.metrics.log_turned_probe": "lm_eval_tasks.metrics.log_rotated_probe",
    "lm_eval_tasks.metrics.compute_ece": f"{_LOGS}.scores.compute_ece",
    "lm_eval_tasks.metrics.compute_letter_skew": f"{_LOGS}.scores.compute_letter_skew",
    "lm_eval_tasks.sets.turn_choices": "lm_eval_tasks.sets.rotate_questions",
}


def find_name(module: str, name: str) -> Any:
    """What was called `module.name`, with a warning; for a module's own `__getattr__`.

    Raises:
        AttributeError: nothing was called so.
    """
    old = f"{module}.{name}"
    own = name.startswith("__")  # what Python itself asks of every module
    candidates = [NAMES[old].rpartition(".")[::2]] if old in NAMES else [(new, name) for new in MODULES.get(module, ())]
    for home, new in () if own else candidates:
        if hasattr(import_module(home), new):
            words = f"{old} is now {home}.{new}. The old name goes with the next version: change it where you wrote it."
            warnings.warn(words, FutureWarning, stacklevel=3)
            return getattr(import_module(home), new)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


class _OldModules(MetaPathFinder, Loader):
    """Makes a module of then, which looks its names up where they are now."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG002
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name, f"Now {' and '.join(MODULES[spec.name])}.")
        module.__getattr__ = lambda name: find_name(spec.name, name)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: its names are looked up when they are asked for."""


def install() -> None:
    """Let Python find the modules of the version before; what is there goes first."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())
