"""Object detection, with attention in the feature pyramid, as the papers put it."""

from keras_fmm.detection.anchors import Anchors
from keras_fmm.detection.average_precision import AveragePrecision, average_precision
from keras_fmm.detection.detections import Detections
from keras_fmm.detection.feature_pyramid import FeaturePyramid, UpsampleLike
from keras_fmm.detection.losses import RetinaNetLoss
from keras_fmm.detection.retinanet import Raw, RetinaNet
from keras_fmm.detection.split import split
from keras_fmm.detection.targets import targets

__all__ = [
    "Anchors",
    "AveragePrecision",
    "Detections",
    "FeaturePyramid",
    "Raw",
    "RetinaNet",
    "RetinaNetLoss",
    "UpsampleLike",
    "average_precision",
    "split",
    "targets",
]
