"""Writing a figure."""

from keras_fmm import checks, files


def save_figure(figure, path):
    """Writes a matplotlib figure, whole or not at all, and returns its path.

    Args:
        figure: `matplotlib.figure.Figure`. What to write.
        path: str or `os.PathLike`. Its ending names the format, such as ".png" or ".svg".

    Returns:
        `pathlib.Path`, the file.

    Raises:
        OSError: the file cannot be written.
        ValueError: matplotlib does not know the format.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_fmm.plots import training_curves
    >>> figure = training_curves({"plain": {"loss": [2.0, 1.0]}}, metrics=["loss"])
    >>> save_figure(figure, pathlib.Path(tempfile.mkdtemp()) / "loss.png").name
    'loss.png'
    """
    path = checks.path("path", path)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight")
    return path
