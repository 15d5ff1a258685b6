"""Integer programs over counts of rows: how many rows of each kind are taken so that sums agree and most rows stay."""

from collections.abc import Iterable

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

Terms = Iterable[tuple[int, float]]  # variables of a sum, and what each counts


class Program:
    """Variables, sums that bound them, and an objective to make large; solved exactly by HiGHS through scipy."""

    def __init__(self) -> None:
        self._upper: list[float] = []
        self._gain: list[float] = []
        self._rows: list[tuple[list[int], list[float], float, float]] = []

    def add(self, upper: float = np.inf, gain: float = 0.0) -> int:
        """A new variable from 0 to `upper`; its number."""
        self._upper.append(upper)
        self._gain.append(gain)
        return len(self._upper) - 1

    def require(self, terms: Terms, low: float = 0.0, high: float = 0.0) -> None:
        """Demand that a sum lies between two bounds."""
        numbers, weights = [], []
        for number, weight in terms:
            numbers.append(number)
            weights.append(weight)
        if numbers:
            self._rows.append((numbers, weights, low, high))

    def solve(self, whole: bool = True) -> np.ndarray | None:
        """The values that make the gain largest, (variables,); None where the demands cannot be met.

        Args:
            whole: False lets every variable be a fraction, which is easier by far.
        """
        row = [i for i, (numbers, *_) in enumerate(self._rows) for _ in numbers]
        column = [number for numbers, *_ in self._rows for number in numbers]
        weight = [value for _, weights, *_ in self._rows for value in weights]
        matrix = coo_array((weight, (row, column)), shape=(len(self._rows), len(self._upper))).tocsr()
        low, high = (np.array([bounds[i] for bounds in self._rows]) for i in (2, 3))
        found = milp(
            -np.array(self._gain),
            integrality=np.full(len(self._upper), int(whole)),
            bounds=Bounds(0, np.array(self._upper)),
            constraints=LinearConstraint(matrix, low, high) if self._rows else (),
        )
        return np.round(found.x) if whole and found.x is not None else found.x
