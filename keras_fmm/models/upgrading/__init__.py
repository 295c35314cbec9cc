"""Attention for models that people already have."""

from keras_fmm.models.upgrading.upgrade import upgrade

__all__ = ["upgrade"]
