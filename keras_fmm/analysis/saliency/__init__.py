"""Where in an image a model looks: gradients, their averages, occlusion."""
