"""Figures of what was measured; matplotlib is imported when the first is drawn."""

from keras_fmm.plots.costs import cost_by_stage
from keras_fmm.plots.curves import training_curves
from keras_fmm.plots.histograms import histograms
from keras_fmm.plots.norms import norms_by_depth
from keras_fmm.plots.saving import save_figure

__all__ = ["cost_by_stage", "histograms", "norms_by_depth", "save_figure", "training_curves"]
