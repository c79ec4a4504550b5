"""How far one sequence is from another."""

from collections.abc import Sequence


def edit_distance(first: Sequence[object], second: Sequence[object]) -> int:
    """Insertions, deletions and replacements that make one of the other (Levenshtein 1966)."""
    row = list(range(len(second) + 1))
    for at, letter in enumerate(first, start=1):
        above, row = row, [at]
        for number, other in enumerate(second):
            row.append(min(above[number] + (letter != other), above[number + 1] + 1, row[-1] + 1))
    return row[-1]
