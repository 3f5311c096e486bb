"""What a p value is called and how several of them are corrected: the same words in every report. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def stars(p: float) -> str:
    """The paper's: * below 0.05, ** below 0.01, *** below 0.001, else "n.s."."""
    return next((mark for limit, mark in ((0.001, "***"), (0.01, "**"), (0.05, "*")) if p < limit), "n.s.")


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the k-th smallest of m is multiplied by m - k + 1, and never below one before it."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
