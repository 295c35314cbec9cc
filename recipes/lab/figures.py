"""Figures that one recipe each draws."""

import statistics

from keras_fmm import checks, deprecated, plots

# They were in `keras_fmm.plots`, which keeps them for a release; then they move here. Not the other
# way round: a wheel of keras_fmm has no recipes to take them from.
accuracy_by_latency = deprecated.accuracy_by_latency
cost_by_stage = deprecated.cost_by_stage
histograms = deprecated.histograms
norms_by_depth = deprecated.norms_by_depth


def titled(figure, part, what):
    """Writes above a figure which part of the results it shows, and what of it, str."""
    figure.suptitle(f"{part}: {what}", fontsize="medium")


def differences(rows, title, unit, path):
    """Writes a picture of differences: a dot a seed, and the mean with its 95 % interval.

    Args:
        rows: dict by the name of a comparison of its differences, one a seed, their interval, a
            pair or None, and what they are tested against, floats.
        title: str, which data and epochs; n is added.
        unit: str, of the differences.
        path: str or `os.PathLike`.
    """
    figures = checks.package("matplotlib.figure", "Drawing", "plots")
    # A few have a scale each, as shares, ratios and counts may be beside each other.
    panels = [{name: row} for name, row in rows.items()] if len(rows) <= 6 else [rows]
    figure = figures.Figure(figsize=(8, 1 + 0.45 * len(panels) + 0.35 * len(rows)), dpi=100)
    figure.set_layout_engine("constrained")
    for axes, panel in zip(
        figure.subplots(len(panels), squeeze=False).ravel(), panels, strict=True
    ):
        for place, (numbers, interval, bounds) in enumerate(panel.values()):
            for bound in bounds:
                axes.plot([bound, bound], [place - 0.5, place + 0.5], ":", color="grey")
            axes.plot(numbers, [place] * len(numbers), "o", color="C0", markersize=4, alpha=0.6)
            if interval:
                axes.plot(interval, [place, place], color="k", linewidth=1.2)
            axes.plot([sum(numbers) / len(numbers)], [place], "|", color="k", markersize=11)
        axes.set_yticks(range(len(panel)), list(panel), fontsize="small")
        axes.set_ylim(len(panel) - 0.5, -0.5)
        axes.tick_params(axis="x", labelsize="small")
        # Else one that is far away leaves the others no room.
        sizes = [abs(x) for numbers, *_ in panel.values() for x in numbers]
        if max(sizes) > 20 * statistics.median(sizes) > 0:
            axes.set_xscale("symlog", linthresh=2 * statistics.median(sizes))
    counts = sorted({len(numbers) for numbers, *_ in rows.values()})
    figure.suptitle(f"{title}, n = {' or '.join(map(str, counts))}", fontsize="medium")
    axes.set_xlabel(f"{unit}; a dot a seed, the mean and its 95 % interval", fontsize="small")
    plots.save_figure(figure, path)
