"""The course of training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_fmm import checks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def training_curves(
    histories: Mapping[str, Mapping], metrics: Sequence[str] = ("loss", "accuracy")
) -> "Figure":
    """Draws each metric over the epochs, a line a run: solid on validation, dashed on training.

    Args:
        histories: dict. By the runs' names dicts by metric of lists, a number an epoch, as
            `model.fit(...).history` and a run record hold them; None where an epoch has none.
        metrics: list or tuple of str, default ("loss", "accuracy"). One panel each; "loss" draws
            "loss" and "val_loss".

    Returns:
        `matplotlib.figure.Figure`; it is not shown.

    Raises:
        ImportError: matplotlib is absent; it is in the extra `plots`.
        TypeError: `histories` is no dict of dicts, one of the metrics is no list of real numbers,
            or `metrics` is no list of str.
        ValueError: no run, a metric that no run has, or one with several numbers an epoch.

    Example:

    >>> figure = training_curves({"plain": {"loss": [2.0, 1.0]}}, metrics=["loss"])
    >>> len(figure.axes)
    1
    """
    figures = checks.package("matplotlib.figure", "Drawing", "plots")
    metrics = checks.names("metrics", metrics)
    if not metrics:
        raise ValueError("`metrics` must name at least one. Received: metrics=[]")
    for name, history in checks.mapping("histories", histories).items():
        checks.mapping(f"histories[{name!r}]", history)
    for metric in metrics:
        if not any(
            metric in history or f"val_{metric}" in history for history in histories.values()
        ):
            known = sorted({name for history in histories.values() for name in history})
            raise ValueError(
                f"`metrics` must be in a history. Received: metrics={metrics}, where {metric!r} "
                f"is in none; the histories have {known}"
            )
    figure = figures.Figure(figsize=(5 * len(metrics), 3.5), dpi=120, layout="constrained")
    for axes, metric in zip(
        figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True
    ):
        for number, (name, history) in enumerate(histories.items()):
            for key, style, label in ((f"val_{metric}", "-", name), (metric, "--", None)):
                values = _numbers(f"histories[{name!r}][{key!r}]", history.get(key, []))
                epochs = range(1, len(values) + 1)
                axes.plot(epochs, values, style, color=f"C{number}", label=label, linewidth=1.5)
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric)
        axes.grid(alpha=0.3)
        axes.legend(title="solid: validation, dashed: training", title_fontsize="small")
    return figure


def _numbers(name, values):
    values = checks.listed(name, values)
    array = checks.real_array(name, [np.nan if value is None else value for value in values])
    if array.ndim != 1:
        raise ValueError(
            f"`{name}` must have one number an epoch. Received: an array of shape {array.shape}. "
            "Give one of several, or their mean."
        )
    return array
