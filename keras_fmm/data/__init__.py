"""Datasets by name or of image files, with classes or boxes: arrays, batches, input scaling."""

from keras_fmm.data.boxes.augmentation import (
    Augmentation,
    RandomBoxBrightness,
    RandomBoxFlip,
    RandomBoxZoom,
)
from keras_fmm.data.boxes.dataset import BoxDataset
from keras_fmm.data.boxes.loading import load_boxes
from keras_fmm.data.datasets import ImageDataset
from keras_fmm.data.folders import load_folder
from keras_fmm.data.image_files import load_image
from keras_fmm.data.loading import is_path, load
from keras_fmm.data.preprocessing import preprocessing
from keras_fmm.data.saved import load_arrays, save_arrays

__all__ = [
    "Augmentation",
    "BoxDataset",
    "ImageDataset",
    "RandomBoxBrightness",
    "RandomBoxFlip",
    "RandomBoxZoom",
    "is_path",
    "load",
    "load_arrays",
    "load_boxes",
    "load_folder",
    "load_image",
    "preprocessing",
    "save_arrays",
]
