"""Spatial: a filter as columns and rows behind one another (Jaderberg et al., BMVC 2014, scheme 2).

conv RxS, C -> K   ->   conv Rx1, C -> rank; conv 1xS, rank -> K

The weight as a matrix [C * R, S * K] is factored; the least-squares solution is its truncated SVD. With the
second moment of the inputs the two sides are solved in turn: each alone is a linear least-squares problem.
"""

import numpy as np

from tersor.passes.decomposition.matrix import Floats, leading, matrix_of, refit

ROUNDS = 4  # of solving both sides
STEPS = 12  # of conjugate gradients for the columns, in each round


def spatial(weight: Floats, rank: int, second_moment: Floats | None = None) -> list[Floats]:
    """Give the weights [rank, C, R, 1] and [K, rank, 1, S] for a weight [K, C, R, S]."""
    outputs, channels, height, width = weight.shape
    sides = weight.transpose(1, 2, 3, 0).reshape(channels * height, width * outputs)
    if min(sides.shape) == len(sides):
        left = leading(sides, rank)
        right = left.T @ sides
    else:
        right = leading(sides.T, rank).T
        left = sides @ right.T
    columns = left.T.reshape(rank, channels, height)
    rows = right.reshape(rank, width, outputs).transpose(2, 0, 1)
    if second_moment is not None:
        columns, rows = _fitted(weight, columns, rows, second_moment)
    return [columns[:, :, :, None], rows[:, :, None, :]]


def _fitted(weight: Floats, columns: Floats, rows: Floats, moment: Floats) -> tuple[Floats, Floats]:
    """Lessen E|W x - W' x|^2: columns are [rank, C, R], rows [K, rank, S]."""
    matrix = matrix_of(weight)
    width = weight.shape[3]
    for _ in range(ROUNDS):
        rows = refit(matrix, _features(columns, width), moment).reshape(rows.shape)
        columns = _solved_columns(matrix, columns, rows, moment)
    rows = refit(matrix, _features(columns, width), moment).reshape(rows.shape)
    return columns, rows


def _features(columns: Floats, width: int) -> Floats:
    """What the rows meet, [(rank, s), (r, s', c)]: a column's sum over one column s' = s of the window."""
    rank, channels, height = columns.shape
    spread = np.zeros((rank, width, height, width, channels))
    for s in range(width):
        spread[:, s, :, s, :] = columns.transpose(0, 2, 1)
    return spread.reshape(rank * width, height * width * channels)


def _solved_columns(matrix: Floats, columns: Floats, rows: Floats, moment: Floats) -> Floats:
    """Solve for the columns at given rows by conjugate gradients: no step adds to the error."""
    width = rows.shape[2]
    flat = rows.reshape(len(rows), -1)  # [K, (rank, s)]
    gram = flat.T @ flat

    def gathered(gradient: Floats) -> Floats:
        spread = gradient.reshape(columns.shape[0], width, columns.shape[2], width, columns.shape[1])
        return np.einsum("isrsc->icr", spread)

    def normal(direction: Floats) -> Floats:
        return gathered(gram @ _features(direction, width) @ moment)

    residual = gathered(flat.T @ matrix @ moment) - normal(columns)
    direction, power = residual, np.square(residual).sum()
    first = power
    for _ in range(STEPS):
        if power <= 1e-20 * first or power == 0:
            break
        curved = normal(direction)
        step = power / (direction * curved).sum()
        columns = columns + step * direction
        residual = residual - step * curved
        before, power = power, np.square(residual).sum()
        direction = residual + power / before * direction
    return columns
