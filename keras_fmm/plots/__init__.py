"""Figures of what was measured; matplotlib is imported when the first is drawn."""

from keras_fmm.plots.curves import training_curves
from keras_fmm.plots.saving import save_figure

__all__ = ["save_figure", "training_curves"]
