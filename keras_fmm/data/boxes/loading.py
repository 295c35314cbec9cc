"""Datasets of images with boxes by name or folder."""

from keras_fmm import hints
from keras_fmm.data import arguments
from keras_fmm.data.boxes.canvases import digits_on_canvas
from keras_fmm.data.boxes.dataset import BoxDataset


def load_boxes(
    name: hints.Path = "digits_on_canvas",
    format: str | None = None,
    validation_fraction: float = 0.15,
    seed: int = 0,
) -> BoxDataset:
    """Returns a dataset of images with boxes."""
    validation_fraction = arguments.fraction("validation_fraction", validation_fraction)
    seed = arguments.seed(seed)
    return digits_on_canvas(validation_fraction, seed)
