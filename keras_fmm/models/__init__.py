"""Backbones, functions that return a plain functional `keras.Model`; weights; upgrades."""

from keras_fmm.models.mobilenet import MobileNet
from keras_fmm.models.preprocessing import Preprocessing
from keras_fmm.models.presets import PRESETS, from_preset, list_presets
from keras_fmm.models.pyramid import feature_model
from keras_fmm.models.resnet import ResNet, ResNet18, ResNet34, ResNet50, ResNet101, ResNet152
from keras_fmm.models.stand_alone_resnet import (
    StandAloneResNet,
    StandAloneResNet26,
    StandAloneResNet38,
    StandAloneResNet50,
)
from keras_fmm.models.timm import from_timm
from keras_fmm.models.toy_cnn import ToyCNN
from keras_fmm.models.upgrading import upgrade
from keras_fmm.models.weights import LoadReport, load_weights
from keras_fmm.models.wide_resnet import WideResNet

__all__ = [
    "PRESETS",
    "LoadReport",
    "MobileNet",
    "Preprocessing",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "StandAloneResNet",
    "StandAloneResNet26",
    "StandAloneResNet38",
    "StandAloneResNet50",
    "ToyCNN",
    "WideResNet",
    "feature_model",
    "from_preset",
    "from_timm",
    "list_presets",
    "load_weights",
    "upgrade",
]
