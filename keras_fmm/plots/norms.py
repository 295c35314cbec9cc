"""How large the numbers inside networks are, block by block."""

import numpy as np

from keras_fmm import checks


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
