"""Soft-DTW with its gradient in numba: the alternative that the native CPU backend is measured against.

The items of a batch are spread over threads; within an item, plain loops over the cells. Like the backend, it
keeps each cell's normalised weights for the way back.

B items, N rows, M columns.
"""

import math

import numba
import numpy as np

_FAR = np.float32(1e30)


@numba.njit(cache=True, fastmath=True, inline="always")
def _fill(cost_NM, scale, weights_NM3, above, here):
    """Accumulated cost of the last cell; a cell's weights go to its diagonal, upper and left predecessor."""
    num_rows, num_columns = cost_NM.shape
    above[:] = _FAR
    above[0] = np.float32(0)
    for i in range(num_rows):
        here[0] = _FAR
        for j in range(num_columns):
            diagonal, up, left = above[j], above[j + 1], here[j]
            least = min(diagonal, up, left)
            weight_diagonal = math.exp((least - diagonal) * scale)
            weight_up = math.exp((least - up) * scale)
            weight_left = math.exp((least - left) * scale)
            total = weight_diagonal + weight_up + weight_left
            here[j + 1] = cost_NM[i, j] + least - math.log(total) / scale
            weights_NM3[i, j, 0] = weight_diagonal / total
            weights_NM3[i, j, 1] = weight_up / total
            weights_NM3[i, j, 2] = weight_left / total
        above, here = here, above
    return above[num_columns]


@numba.njit(cache=True, fastmath=True, inline="always")
def _pass_back(weights_NM3, gradient_NM):
    """Each cell passes its gradient on to its predecessors by their weights."""
    num_rows, num_columns = gradient_NM.shape
    gradient_NM[:] = np.float32(0)
    gradient_NM[num_rows - 1, num_columns - 1] = np.float32(1)
    for i in range(num_rows - 1, -1, -1):
        for j in range(num_columns - 1, -1, -1):
            here = gradient_NM[i, j]
            if i > 0 and j > 0:
                gradient_NM[i - 1, j - 1] += here * weights_NM3[i, j, 0]
            if i > 0:
                gradient_NM[i - 1, j] += here * weights_NM3[i, j, 1]
            if j > 0:
                gradient_NM[i, j - 1] += here * weights_NM3[i, j, 2]


@numba.njit(cache=True, fastmath=True, parallel=True)
def _solve(cost_BNM, gamma, value_B, gradient_BNM, num_threads):
    batch, num_rows, num_columns = cost_BNM.shape
    scale = np.float32(1) / gamma
    for thread in numba.prange(num_threads):
        # Once per thread, not per item: new memory is slow when it is first written.
        weights_NM3 = np.empty((num_rows, num_columns, 3), dtype=np.float32)
        above, here = np.empty((2, num_columns + 1), dtype=np.float32)
        for b in range(thread, batch, num_threads):
            value_B[b] = _fill(cost_BNM[b], scale, weights_NM3, above, here)
            _pass_back(weights_NM3, gradient_BNM[b])


def soft_dtw(cost_BNM: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Value of every item, (B,), and its derivative to each cell, (B, N, M), for float32 costs and γ > 0."""
    value_B = np.empty(len(cost_BNM), dtype=np.float32)
    gradient_BNM = np.empty_like(cost_BNM)
    num_threads = min(numba.get_num_threads(), len(cost_BNM))
    _solve(cost_BNM, np.float32(gamma), value_B, gradient_BNM, num_threads)
    return value_B, gradient_BNM
