"""Axes that show the range of a searched parameter."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from analysis.search.proposals import Parameter


def parameter_x(parameter: Parameter, settings: pd.Series) -> np.ndarray:
    """Return where settings stand on an axis: as they are, or the place of an option."""
    return parameter.position(settings) if parameter.options else settings.to_numpy(dtype=np.float64)


def scale_axis(axes: Axes, parameter: Parameter) -> None:
    """Give the x axis the range of a parameter."""
    if parameter.options:
        position_ticks(axes.xaxis, parameter)
        axes.set_xlim(-0.5, len(parameter.options) - 0.5)
    elif parameter.log:
        axes.set_xscale("log")
        factor = (parameter.high / parameter.low) ** 0.06
        axes.set_xlim(parameter.low / factor, parameter.high * factor)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.06 * (parameter.high - parameter.low)
        axes.set_xlim(parameter.low - margin, parameter.high + margin)


def position_ticks(axis: Axis, parameter: Parameter) -> None:
    """Label an axis of positions, 0 at a parameter's low and 1 at its high, with its values."""
    if parameter.options:
        axis.set_ticks(np.arange(len(parameter.options)), [str(option) for option in parameter.options])
        return
    values = tick_values(parameter)
    axis.set_ticks(parameter.position(pd.Series(values)), [f"{value:g}" for value in values])


def tick_values(parameter: Parameter) -> np.ndarray:
    """Return round values within a parameter's range."""
    if parameter.log:
        first, last = np.ceil(np.log10(parameter.low)), np.floor(np.log10(parameter.high))
        decades = 10.0 ** np.arange(first, last + 1)
        return decades if len(decades) > 1 else np.array([parameter.low, parameter.high])
    locator = MaxNLocator(4, integer=parameter.integer)
    values = np.asarray(locator.tick_values(parameter.low, parameter.high))
    return values[(values >= parameter.low) & (values <= parameter.high)]
