"""Figures that one recipe each draws."""

from keras_fmm import deprecated

# They were in `keras_fmm.plots`, which keeps them for a release; then they move here. Not the other
# way round: a wheel of keras_fmm has no recipes to take them from.
accuracy_by_latency = deprecated.accuracy_by_latency
cost_by_stage = deprecated.cost_by_stage
histograms = deprecated.histograms
norms_by_depth = deprecated.norms_by_depth
