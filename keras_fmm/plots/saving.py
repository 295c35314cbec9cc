"""Writing a figure."""

import pathlib

from keras_fmm import files


def save_figure(figure, path):
    """Writes a matplotlib figure, whole or not at all, and returns its path.

    Args:
        figure: `matplotlib.figure.Figure`.
        path: str or `os.PathLike`; its ending names the format, such as ".png" or ".svg".

    Raises:
        OSError: the file cannot be written.
        ValueError: matplotlib does not know the format.
    """
    path = pathlib.Path(path)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight")
    return path
