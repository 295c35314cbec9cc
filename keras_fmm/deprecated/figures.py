"""Figures that one recipe each draws; they were in `keras_fmm.plots`."""

import numpy as np

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


def cost_by_stage(ratios):
    """Draws ratios of time by stage: a panel a mode, a line a candidate, 1 marked.

    Args:
        ratios: dict by mode of dicts by candidate of dicts by stage of floats above 0, as
            `recipes.benchmarks.aw_conv` writes them.

    Returns:
        `matplotlib.figure.Figure`; it is not shown.

    Raises:
        ImportError: matplotlib is absent; it is in the extra `plots`.
        ValueError: there is no mode.

    Example:

    >>> figure = cost_by_stage({"train": {"auto": {"56x56x64": 1.1, "28x28x128": 1.2}}})
    >>> figure.axes[0].get_title()
    'train'
    """
    figures = checks.package("matplotlib.figure", "Drawing", "plots")
    ticker = checks.package("matplotlib.ticker", "Drawing", "plots")
    if not ratios:
        raise ValueError("`ratios` must have a mode to draw. Received: ratios={}")
    names = list(dict.fromkeys(name for rows in ratios.values() for name in rows))
    figure = figures.Figure(figsize=(3.2 * len(ratios), 4), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(ratios), squeeze=False, sharey=True)[0]
    for axes, (mode, rows) in zip(panels, ratios.items(), strict=True):
        for name, row in rows.items():
            number = names.index(name)
            style = "-" if number < 10 else "--"
            axes.plot(
                list(row), list(row.values()), style, marker=".", color=f"C{number}", label=name
            )
        axes.axhline(1, color="black", linewidth=1)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.set_title(mode, fontsize="medium")
        axes.tick_params(axis="x", rotation=60)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("time, as a ratio to Conv2D")
    lines = {}
    for axes in panels:
        for line in axes.get_lines():
            if not line.get_label().startswith("_"):
                lines.setdefault(line.get_label(), line)
    figure.legend(lines.values(), lines, loc="outside right upper", fontsize="small")
    return figure


def histograms(panels, edges, xlabel, ylabel):
    """Draws counts over bins, a panel each, several outlines in one.

    Args:
        panels: dict by title of dicts by name of arrays of counts, `(bins,)`.
        edges: array `(bins + 1,)`, the bins' edges, the same for all.
        xlabel, ylabel: str, what is counted, and what a count is of.

    Returns:
        `matplotlib.figure.Figure`; it is not shown.

    Raises:
        ImportError: matplotlib is absent; it is in the extra `plots`.
        ValueError: there is no panel, or there is not a count for each bin.

    Example:

    >>> figure = histograms({"gate": {"trained": [3, 1]}}, [0, 0.5, 1], "cosine", "images")
    >>> figure.axes[0].get_title()
    'gate'
    """
    figures = checks.package("matplotlib.figure", "Drawing", "plots")
    if not panels:
        raise ValueError("`panels` must have a panel to draw. Received: panels={}")
    for title, series in panels.items():
        for name, counts in series.items():
            if len(counts) != len(edges) - 1:
                raise ValueError(
                    "`panels` must have a count for each bin, one fewer than edges. "
                    f"Received: {len(counts)} counts of {name!r} in {title!r} for {len(edges)} "
                    "edges."
                )
    figure = figures.Figure(figsize=(4.5 * len(panels), 3.2), dpi=120, layout="constrained")
    axes_of = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, series) in zip(axes_of, panels.items(), strict=True):
        for number, (name, counts) in enumerate(series.items()):
            axes.stairs(counts, edges, color=f"C{number}", label=name, linewidth=1.5)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel(xlabel)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    axes_of[0].set_ylabel(ylabel)
    return figure


def norms_by_depth(series, limits=None):
    """Draws quantities over the blocks of networks, a panel each, on logarithmic axes.

    Args:
        series: dict by the networks' names of lists, one item a run, of dicts by quantity of
            lists, a positive number a block. None and what is not positive and finite is left out.
        limits: dict by name of numbers, drawn as lines across every panel, or None.

    Returns:
        `matplotlib.figure.Figure`; it is not shown.

    Raises:
        ImportError: matplotlib is absent; it is in the extra `plots`.
        ValueError: there is no run.

    Example:

    >>> figure = norms_by_depth({"sum": [{"largest": [1.0, 2.0]}]}, limits={"float16": 65504.0})
    >>> figure.axes[0].get_ylabel()
    'largest'
    """
    figures = checks.package("matplotlib.figure", "Drawing", "plots")
    runs = [run for runs in series.values() for run in runs]
    if not runs:
        raise ValueError(f"`series` must hold at least one run. Received: series={series}")
    quantities = list(runs[0])
    figure = figures.Figure(figsize=(4.5 * len(quantities), 3.5), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, quantity in zip(panels, quantities, strict=True):
        for number, (name, runs) in enumerate(series.items()):
            for index, run in enumerate(runs):
                numbers = np.array(run[quantity], "float64")
                drawn = np.where((numbers > 0) & np.isfinite(numbers), numbers, np.nan)
                label = name if index == 0 else None
                blocks = range(1, len(drawn) + 1)
                axes.plot(blocks, drawn, color=f"C{number}", label=label, linewidth=1.2)
        for name, limit in (limits or {}).items():
            axes.axhline(limit, color="grey", linestyle=":", label=name)
        axes.set_yscale("log")
        axes.set_xlabel("block")
        axes.set_ylabel(quantity.replace("_", " "))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return figure


def _all(dicts):
    """Returns the keys of several dicts, each once, in the order they appear."""
    return list(dict.fromkeys(key for each in dicts for key in each))
