"""Cases of tests with many independent axes."""

from itertools import combinations, product

import pytest


def covering(sizes):
    """Rows of indices in which any two columns show all combinations of their values.

    There are about as many rows as the two longest axes have combinations. The other columns
    change from row to row so that few combinations of three values are left out either.
    """
    columns = range(len(sizes))
    first, second = sorted(columns, key=lambda column: -sizes[column])[:2]
    seen, rows = set(), []

    def parts(row, n):
        return {(chosen, tuple(row[i] for i in chosen)) for chosen in combinations(columns, n)}

    def news(row):
        return [len(parts(row, n) - seen) for n in (2, 3)]

    def add(candidates):
        rows.append(max(candidates, key=news))
        seen.update(parts(rows[-1], 2), parts(rows[-1], 3))

    everything = list(product(*map(range, sizes)))
    for pair in product(range(sizes[first]), range(sizes[second])):
        add(row for row in everything if (row[first], row[second]) == pair)
    while max(news(row)[0] for row in everything):
        add(everything)
    return rows


def pairwise(indirect=(), **axes):
    """A parametrization in which every value of an axis meets every value of every other axis."""
    values = [list(axis) for axis in axes.values()]
    cases = [
        tuple(axis[i] for axis, i in zip(values, row, strict=True))
        for row in covering([len(axis) for axis in values])
    ]
    return pytest.mark.parametrize(tuple(axes), cases, indirect=list(indirect))
