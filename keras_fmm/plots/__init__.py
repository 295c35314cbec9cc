"""Figures of what was measured; matplotlib is imported when the first is drawn."""

from keras_fmm.plots.costs import cost_by_stage
from keras_fmm.plots.curves import training_curves
from keras_fmm.plots.saving import save_figure
from keras_fmm.plots.trajectories import curves_along

__all__ = ["cost_by_stage", "curves_along", "save_figure", "training_curves"]
