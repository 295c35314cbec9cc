"""What a layer costs beside a plain one."""

from keras_fmm import checks


def cost_by_stage(ratios):
    """Draws ratios of time by stage: a panel a mode, a line a candidate, 1 marked.

    Args:
        ratios: dict by mode of dicts by candidate of dicts by stage of floats above 0, as
            `recipes.benchmark_aw_conv` writes them.

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
