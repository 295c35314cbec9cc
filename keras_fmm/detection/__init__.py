"""Object detection, with attention in the feature pyramid, as the papers put it."""

from keras_fmm.detection.anchors import Anchors, DefaultBoxes
from keras_fmm.detection.average_precision import AveragePrecision, average_precision
from keras_fmm.detection.detections import Detections
from keras_fmm.detection.detector import detector
from keras_fmm.detection.faster_rcnn import FasterRCNN
from keras_fmm.detection.feature_pyramid import FeaturePyramid, UpsampleLike
from keras_fmm.detection.losses import RetinaNetLoss
from keras_fmm.detection.objects_as_input import ObjectsAsInput
from keras_fmm.detection.presets import PRESETS, from_preset, list_presets
from keras_fmm.detection.region_proposals import RegionProposals, Sampling
from keras_fmm.detection.retinanet import Raw, RetinaNet
from keras_fmm.detection.roi_align import RoIAlign
from keras_fmm.detection.sampled_loss import SampledLoss
from keras_fmm.detection.split import split
from keras_fmm.detection.ssd300 import SSD300, L2Normalization
from keras_fmm.detection.ssd_loss import SSDLoss
from keras_fmm.detection.targets import targets

__all__ = [
    "PRESETS",
    "SSD300",
    "Anchors",
    "AveragePrecision",
    "DefaultBoxes",
    "Detections",
    "FasterRCNN",
    "FeaturePyramid",
    "L2Normalization",
    "ObjectsAsInput",
    "Raw",
    "RegionProposals",
    "RetinaNet",
    "RetinaNetLoss",
    "RoIAlign",
    "SSDLoss",
    "SampledLoss",
    "Sampling",
    "UpsampleLike",
    "average_precision",
    "detector",
    "from_preset",
    "list_presets",
    "split",
    "targets",
]
