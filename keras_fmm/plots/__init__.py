"""Figures of what was measured; matplotlib is imported when the first is drawn."""

from keras_fmm.plots.costs import cost_by_stage
from keras_fmm.plots.curves import training_curves
from keras_fmm.plots.grad_cam_callback import GradCAMCallback
from keras_fmm.plots.heat_maps import heat_map_overlay
from keras_fmm.plots.histograms import histograms
from keras_fmm.plots.latencies import accuracy_by_latency
from keras_fmm.plots.norms import norms_by_depth
from keras_fmm.plots.saving import save_figure
from keras_fmm.plots.trajectories import curves_along

__all__ = [
    "GradCAMCallback",
    "accuracy_by_latency",
    "cost_by_stage",
    "curves_along",
    "heat_map_overlay",
    "histograms",
    "norms_by_depth",
    "save_figure",
    "training_curves",
]
