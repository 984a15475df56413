"""Snippet features of a 50 Hz inertial signal: three accelerometer and three gyroscope channels.

Shapes: N samples, K = 6 channels, T snippets, W samples of a window, F frequency bins, D = 70 features.
"""

import numpy as np

SAMPLE_HZ = 50
# A snippet advances 0.32 s and looks at the 0.64 s around its centre.
SNIPPET_SAMPLES = 16
_WINDOW_SAMPLES = 32
# Bins of the window's spectrum, 1.5625 Hz apart: 1.6, 3.1, 4.7 ... 6.3 and 7.8 ... 25 Hz.
_BANDS = ((1, 2), (2, 3), (3, 5), (5, 17))
_AXIS_PAIRS = ((0, 1), (0, 2), (1, 2))


def snippet_features(signal_NK: np.ndarray) -> np.ndarray:
    """Return the (T, 70) features of a signal, T = N // 16, not yet normalised.

    For each channel mean, standard deviation, minimum, maximum, slope (per second), mean absolute difference
    and the log power in four frequency bands; the correlations of the axes within each sensor; mean and
    standard deviation of each sensor's magnitude. Windows that reach over an end see the signal mirrored.
    """
    overhang = (_WINDOW_SAMPLES - SNIPPET_SAMPLES) // 2
    padded_NK = np.pad(signal_NK, ((overhang, overhang), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded_NK, _WINDOW_SAMPLES, axis=0)
    window_TKW = windows[::SNIPPET_SAMPLES]
    mean_TK = window_TKW.mean(axis=2)
    centred_TKW = window_TKW - mean_TK[:, :, None]
    sd_TK = centred_TKW.std(axis=2)
    time_s = (np.arange(_WINDOW_SAMPLES) - (_WINDOW_SAMPLES - 1) / 2) / SAMPLE_HZ
    slope_TK = centred_TKW @ time_s / (time_s**2).sum()
    difference_TK = np.abs(np.diff(window_TKW, axis=2)).mean(axis=2)
    power_TKF = np.abs(np.fft.rfft(centred_TKW, axis=2)) ** 2
    bands = [np.log(power_TKF[:, :, low:high].sum(axis=2) + 1e-3) for low, high in _BANDS]
    correlations = [
        (centred_TKW[:, a] * centred_TKW[:, b]).mean(axis=1) / (sd_TK[:, a] * sd_TK[:, b] + 1e-6)
        for first in (0, 3)
        for a, b in ((first + i, first + j) for i, j in _AXIS_PAIRS)
    ]
    magnitudes = [np.linalg.norm(window_TKW[:, sensor], axis=1) for sensor in (slice(0, 3), slice(3, 6))]
    return np.concatenate(
        [
            mean_TK,
            sd_TK,
            window_TKW.min(axis=2),
            window_TKW.max(axis=2),
            slope_TK,
            difference_TK,
            *bands,
            np.stack(correlations, axis=1),
            np.stack([m.mean(axis=1) for m in magnitudes] + [m.std(axis=1) for m in magnitudes], axis=1),
        ],
        axis=1,
    )
