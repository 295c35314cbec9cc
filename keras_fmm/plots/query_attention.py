"""Where single positions of an image look."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_fmm import checks, hints
from keras_fmm.plots.heat_maps import checked_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def query_attention(
    images: hints.ArrayLike,
    maps: hints.ArrayLike,
    queries: Sequence[tuple[int, int]],
    map_size: tuple[int, int] | None = None,
    head: int | None = None,
    titles: Sequence[str] | None = None,
) -> "Figure":
    """Draws a row for each image: the image with the queries, and where each of them looks.

    A query is a position of the map that is attended to, drawn as a cross at its place in the
    image. Weights are coloured from 0 to the greatest of their panel, as its colour bar says.

    Args:
        images: array `(n, height, width, channels)`, as `heat_map_overlay` takes it.
        maps: array `(n, queries, heads, h, w)` of finite numbers of at least 0, as
            `analysis.attention_maps(model, images, queries=queries)` returns them by layer.
        queries: list of pairs of int. The row and column of each, as `maps` were asked for.
        map_size: pair of int or None, default None. The height and width of the map that is
            attended to. Needed where maps are of a window around each query, as those of
            `layers.LocalSelfAttention2D`; None: they are of the whole map.
        head: int or None, default None. The head that is drawn; None: the mean of all.
        titles: list or tuple of n str, default None. One for each image.

    Returns:
        `matplotlib.figure.Figure`; it is not shown.

    Raises:
        ImportError: matplotlib is absent; it is in the extra `plots`.
        TypeError: an argument is of another type.
        ValueError: the maps are of another shape than images and queries say or hold negative
            numbers; a query lies outside of the map; there is no such head.

    Example:

    >>> import numpy as np
    >>> maps = np.random.rand(2, 3, 8, 4, 4)
    >>> figure = query_attention(np.ones((2, 8, 8, 3)), maps, [(0, 0), (1, 2), (3, 3)], head=0)
    >>> [axes.get_title() for axes in figure.axes[1:4]]
    ['(0, 0)', '(1, 2)', '(3, 3)']
    """
    figures = checks.package("matplotlib.figure", "Drawing", "plots")
    images = checked_images(checks.real_array("images", images))
    queries = [checks.listed("queries", query, int) for query in checks.listed("queries", queries)]
    maps = _checked(checks.real_array("maps", maps), len(images), len(queries))
    size = maps.shape[3:] if map_size is None else checks.pair("map_size", map_size)
    for query in queries:
        if len(query) != 2 or not all(0 <= at < side for at, side in zip(query, size, strict=True)):
            raise ValueError(
                f"`queries` must be pairs of a row and a column of the map of {tuple(size)}. "
                f"Received: the query {tuple(query)}. For maps of windows give `map_size`."
            )
    if head is not None:
        head = checks.integer("head", head, f"one of the {maps.shape[2]} heads", 0, maps.shape[2])
    weights = maps.mean(axis=2) if head is None else maps[:, :, head]
    titles = [""] * len(images) if titles is None else checks.listed("titles", titles, str)
    if len(titles) != len(images):
        raise ValueError(
            "`titles` must have one for each image. "
            f"Received: {len(titles)} titles for {len(images)} images."
        )
    columns = 1 + len(queries)
    drawn = figures.Figure(
        figsize=(2.4 * columns, 2.2 * len(images)), dpi=100, layout="constrained"
    )
    panels = drawn.subplots(len(images), columns, squeeze=False)
    # In pixels of the image, whose first has its middle at 0.
    step = np.array(images.shape[1:3]) / size
    for row, image, looks, title in zip(panels, images, weights, titles, strict=True):
        for axes in row:
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
        row[0].set_title(title, fontsize="medium")
        limits = row[0].get_xlim(), row[0].get_ylim()
        for axes, query, look in zip(row[1:], queries, looks, strict=True):
            # A window begins (k - 1) // 2 before its query.
            first = [0, 0]
            if map_size is not None:
                first = [at - (side - 1) // 2 for at, side in zip(query, look.shape, strict=True)]
            top, left = first * step - 0.5
            bottom, right = (np.array(first) + look.shape) * step - 0.5
            shown = axes.imshow(
                look, extent=(left, right, bottom, top), cmap="viridis", alpha=0.7, vmin=0
            )
            y, x = (np.array(query) + 0.5) * step - 0.5
            for place in (row[0], axes):
                place.plot([x], [y], "r+", markersize=10, markeredgewidth=2)
            axes.set_xlim(limits[0])
            axes.set_ylim(limits[1])
            axes.set_title(str(tuple(query)), fontsize="medium")
            drawn.colorbar(shown, ax=axes)
        row[0].set_xlim(limits[0])
        row[0].set_ylim(limits[1])
    return drawn


def _checked(maps, images, queries):
    """Returns maps of rank 5, as float32."""
    if maps.ndim != 5 or maps.shape[:2] != (images, queries) or not maps.size:
        raise ValueError(
            "`maps` must be (n, queries, heads, h, w), one for each image and query. Received: "
            f"maps of shape {maps.shape} for {images} images and {queries} queries. Take one "
            "layer's of `analysis.attention_maps(model, images, queries=queries)`."
        )
    if not np.isfinite(maps).all() or maps.min() < 0:
        raise ValueError(
            "`maps` must be finite numbers of at least 0. "
            f"Received: numbers from {maps.min()} to {maps.max()}"
        )
    return maps.astype("float32")
