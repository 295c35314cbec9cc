"""Histograms of several things over each other."""

from keras_fmm import checks


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
