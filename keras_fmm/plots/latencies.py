"""Accuracy against latency."""

from keras_fmm import checks

_MARKERS = "osD^vP*X"


def accuracy_by_latency(panels):
    """Draws networks as points: what they score against how long they take, a panel each kind.

    Args:
        panels: dict by title of dicts by series (such as a quantization) of dicts by name of
            pairs: milliseconds and accuracy, 0 to 1. A series has one colour, a name
            one marker, in all panels.

    Returns:
        `matplotlib.figure.Figure`; it is not shown.

    Raises:
        ImportError: matplotlib is absent; it is in the extra `plots`.
        ValueError: there is no panel.

    Example:

    >>> figure = accuracy_by_latency({"MobileNet": {"int8": {"SE": (1.5, 0.9)}}})
    >>> figure.axes[0].get_title()
    'MobileNet'
    """
    figures = checks.package("matplotlib.figure", "Drawing", "plots")
    lines = checks.package("matplotlib.lines", "Drawing", "plots")
    if not panels:
        raise ValueError("`panels` must have a panel to draw. Received: panels={}")
    colours = {name: f"C{n}" for n, name in enumerate(_all(panels.values()))}
    found = _all(series for panel in panels.values() for series in panel.values())
    markers = {name: _MARKERS[n % len(_MARKERS)] for n, name in enumerate(found)}
    figure = figures.Figure(figsize=(4 * len(panels) + 1.5, 3.6), dpi=120, layout="constrained")
    axes_of = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, panel) in zip(axes_of, panels.items(), strict=True):
        for series, points in panel.items():
            for name, (milliseconds, accuracy) in points.items():
                axes.scatter(
                    milliseconds,
                    100 * accuracy,
                    color=colours[series],
                    marker=markers[name],
                    alpha=0.8,
                )
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("milliseconds an image")
        axes.grid(alpha=0.3)
    axes_of[0].set_ylabel("accuracy on test, %")
    legend = [lines.Line2D([], [], color=c, linewidth=4, label=n) for n, c in colours.items()]
    legend += [
        lines.Line2D([], [], color="grey", marker=marker, linestyle="", label=name)
        for name, marker in markers.items()
    ]
    figure.legend(handles=legend, loc="outside right center", fontsize="small")
    return figure


def _all(dicts):
    """Returns the keys of several dicts, each once, in the order they appear."""
    return list(dict.fromkeys(key for each in dicts for key in each))
