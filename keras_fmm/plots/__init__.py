"""Figures of what was measured; matplotlib is imported when the first is drawn."""

from keras_fmm import deprecated
from keras_fmm.plots.curves import training_curves
from keras_fmm.plots.grad_cam_callback import GradCAMCallback
from keras_fmm.plots.heat_maps import heat_map_overlay, tf_explain_overlay
from keras_fmm.plots.query_attention import query_attention
from keras_fmm.plots.report import save_report
from keras_fmm.plots.saving import save_figure
from keras_fmm.plots.trajectories import curves_along

__all__ = [
    "GradCAMCallback",
    "curves_along",
    "heat_map_overlay",
    "query_attention",
    "save_figure",
    "save_report",
    "tf_explain_overlay",
    "training_curves",
]

__getattr__ = deprecated.names(
    __name__, deprecated.FIGURES, "Only recipes draw it: recipes.lab.figures has it."
)
