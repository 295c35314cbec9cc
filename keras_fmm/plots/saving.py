"""Writing a figure."""

import pathlib
from typing import TYPE_CHECKING

from keras_fmm import checks, files, hints

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", path: hints.Path) -> pathlib.Path:
    """Writes a matplotlib figure, whole or not at all, and returns its path.

    Args:
        figure: `matplotlib.figure.Figure`. What to write.
        path: str or `os.PathLike`. Its ending names the format, such as ".png" or ".svg".

    Returns:
        `pathlib.Path`, the file.

    Raises:
        TypeError: `figure` is no figure, or `path` no path.
        OSError: the file cannot be written.
        ValueError: the path has no ending, or matplotlib does not know the format.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_fmm.plots import training_curves
    >>> figure = training_curves({"plain": {"loss": [2.0, 1.0]}}, metrics=["loss"])
    >>> save_figure(figure, pathlib.Path(tempfile.mkdtemp()) / "loss.png").name
    'loss.png'
    """
    figures = checks.package("matplotlib.figure", "Drawing", "plots")
    checks.instance("figure", figure, figures.Figure)
    path = checks.path("path", path)
    if not path.suffix:
        raise ValueError(
            f"`path` must end in a format, such as '.png'. Received: path={str(path)!r}"
        )
    with files.replacing(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight")
    return path
