"""Neurons along a trajectory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_fmm import checks, hints

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves_along(
    values: hints.ArrayLike | Sequence[hints.ArrayLike],
    labels: Sequence[str] | None = None,
    samples: Sequence[str] = ("a", "b", "c"),
    ylabel: str = "logits",
    same_scale: bool = True,
) -> "Figure":
    """Draws the neurons of models round an ellipse through three samples: a panel a model.

    Args:
        values: dict. By the models' names arrays `(points, classes)`, as `analysis.curve` gives
            them along `analysis.ellipse`.
        labels: list or tuple of str, default None. The classes' names; None numbers them.
        samples: three str, default ("a", "b", "c"). The names of the samples, which are marked at
            the first point and at one and two thirds of the way.
        ylabel: str, default "logits". What the values are.
        same_scale: bool, default True. One vertical scale for all; False gives each model its own,
            to compare the shapes of curves where one has larger logits.

    Returns:
        `matplotlib.figure.Figure`; it is not shown.

    Raises:
        ImportError: matplotlib is absent; it is in the extra `plots`.
        TypeError: `labels` or `samples` is no sequence, or `same_scale` is no bool.
        ValueError: there is no model, its values have not two axes or no point, there is not a
            name for each of its classes, or there are not three samples.

    Example:

    >>> import numpy as np
    >>> angles = np.arange(300) * 2 * np.pi / 300
    >>> values = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    >>> figure = curves_along({"plain": values, "squeeze_excite": values / 2})
    >>> [axes.get_title() for axes in figure.axes]
    ['plain', 'squeeze_excite']
    """
    same_scale = checks.flag("same_scale", same_scale)
    figures = checks.package("matplotlib.figure", "Drawing", "plots")
    values = {
        name: checks.real_array(f"values[{name!r}]", array)
        for name, array in checks.mapping("values", values).items()
    }
    labels = labels if labels is None else checks.names("labels", labels)
    samples = checks.names("samples", samples)
    _check(values, labels, samples)
    figure = figures.Figure(figsize=(1 + 4 * len(values), 3.5), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(values), squeeze=False, sharey=same_scale)[0]
    for axes, (name, array) in zip(panels, values.items(), strict=True):
        way = np.arange(len(array) + 1) / len(array)
        for number, neuron in enumerate(np.concatenate([array, array[:1]]).T):
            label = str(number) if labels is None else labels[number]
            style = "-" if number < 10 else "--"
            axes.plot(way, neuron, style, color=f"C{number}", label=label, linewidth=1.2)
        for third in range(4):
            axes.axvline(third / 3, color="black", linewidth=0.8, linestyle=":")
        axes.set_xticks([0, 1 / 3, 2 / 3, 1], [*samples, samples[0]])
        axes.set_title(name, fontsize="medium")
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel(ylabel)
    widest = max(panels, key=lambda axes: len(axes.get_legend_handles_labels()[0]))
    figure.legend(*widest.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    return figure


def _check(values, labels, samples):
    if not values:
        raise ValueError("`values` must have a model to draw. Received: values={}")
    for name, array in values.items():
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(
                "`values` must be (points, classes) for each model. "
                f"Received: shape {array.shape} of {name!r}. Give one of several trajectories, "
                "`values[0]`."
            )
        if labels is not None and len(labels) != array.shape[1]:
            raise ValueError(
                "`labels` must be one for each class. "
                f"Received: {len(labels)} for the {array.shape[1]} classes of {name!r}"
            )
    if len(samples) != 3:
        raise ValueError(f"`samples` must be three names. Received: samples={samples!r}")
