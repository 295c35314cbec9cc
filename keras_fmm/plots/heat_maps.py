"""Heat maps over the images that they belong to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_fmm import checks, hints

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heat_map_overlay(
    images: hints.ArrayLike, maps: hints.ArrayLike, titles: Sequence[str] | None = None
) -> "Figure":
    """Draws a row for each image: the image, and the image under its heat map.

    Each map is stretched over its image, bilinearly, and coloured from its own least to its own
    greatest value, as its colour bar says.

    Args:
        images: array `(n, height, width, channels)`, of 1 or 3 channels. Values of 0 to 1 and 0 to
            255 are drawn as they are, any others from the least in all images to the greatest.
        maps: array `(n, h, w)` or `(n, h, w, 1)`, of finite numbers. As `analysis.grad_cam` returns
            them; h and w need not be the images'.
        titles: list or tuple of n str, default None. One for each image.

    Returns:
        `matplotlib.figure.Figure`; it is not shown.

    Raises:
        ImportError: matplotlib is absent; it is in the extra `plots`.
        TypeError: the images or maps hold no real numbers, or the titles are no list of str.
        ValueError: the images or maps are of another shape, or not as many as the images.

    Example:

    >>> import numpy as np
    >>> figure = heat_map_overlay(np.ones((2, 8, 8, 3)), np.eye(2).reshape(2, 1, 2), ["a", "b"])
    >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
    ['a', 'b']
    """
    figures = checks.package("matplotlib.figure", "Drawing", "plots")
    images, maps = _checked(checks.real_array("images", images), checks.real_array("maps", maps))
    titles = [""] * len(images) if titles is None else checks.listed("titles", titles, str)
    if len(titles) != len(images):
        raise ValueError(
            "`titles` must have one for each image. "
            f"Received: {len(titles)} titles for {len(images)} images."
        )
    figure = figures.Figure(figsize=(6, 2.6 * len(images)), dpi=120, layout="constrained")
    rows = figure.subplots(len(images), 2, squeeze=False)
    for (plain, overlaid), image, heat, title in zip(rows, images, maps, titles, strict=True):
        for axes in (plain, overlaid):
            shown = axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
        shown = overlaid.imshow(
            heat, extent=shown.get_extent(), interpolation="bilinear", cmap="jet", alpha=0.5
        )
        figure.colorbar(shown, ax=overlaid)
        plain.set_title(title, fontsize="medium")
    return figure


def tf_explain_overlay(images: hints.ArrayLike, maps: hints.ArrayLike) -> np.ndarray:
    """Renders each image under its heat map as tf-explain shows its Grad-CAM.

    tf-explain imports TensorFlow. `heat_map_overlay` needs neither.

    Args:
        images: array `(n, height, width, channels)`, as `heat_map_overlay` takes it.
        maps: array `(n, h, w)` or `(n, h, w, 1)`, as `heat_map_overlay` takes it.

    Returns:
        uint8 NumPy array `(n, height, width, 3)`.

    Raises:
        ImportError: tf-explain is absent; it is in the extra `explain`.
        TypeError: the images or maps hold no real numbers.
        ValueError: the images or maps are of another shape, or not as many as the images.

    Example:

    >>> import numpy as np
    >>> tf_explain_overlay(np.ones((2, 8, 8, 1)), np.eye(2).reshape(2, 1, 2)).shape
    (2, 8, 8, 3)
    """
    display = checks.package("tf_explain.utils.display", "Rendering", "explain")
    images, maps = _checked(checks.real_array("images", images), checks.real_array("maps", maps))
    coloured = np.broadcast_to(images, (*images.shape[:3], 3))
    # A map that is the same everywhere has no range to divide by.
    with np.errstate(invalid="ignore"):
        return np.stack(
            [display.heatmap_display(*pair) for pair in zip(maps, coloured, strict=True)]
        )


def checked_images(images):
    """Returns images of values 0 to 1; raises ValueError."""
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(
            "`images` must be (n, height, width, channels) of 1 or 3 channels. "
            f"Received: images of shape {images.shape}."
        )
    _check_finite("images", images)
    images = images.astype("float32")
    low, high = 0.0, 1.0 if images.max() <= 1 else 255.0
    if images.min() < low or images.max() > high:
        low, high = images.min(), images.max()
    return (images - low) / ((high - low) or 1.0)


def _check_finite(name, array):
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite. Received: {name} with a NaN or an infinity")


def _checked(images, maps):
    """Returns images of values 0 to 1 and maps of rank 3."""
    images = checked_images(images)
    if maps.ndim == 4 and maps.shape[-1] == 1:
        maps = maps[..., 0]
    if maps.ndim != 3 or len(maps) != len(images) or not maps.size:
        raise ValueError(
            "`maps` must be one (h, w) for each image. "
            f"Received: maps of shape {maps.shape} for {len(images)} images. Of a map of several "
            "channels take one, or their sum."
        )
    _check_finite("maps", maps)
    return images, maps.astype("float32")
