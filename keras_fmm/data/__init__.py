"""Image classification datasets by name or of image files: arrays, pipelines, input scaling."""

from keras_fmm.data.datasets import ImageDataset
from keras_fmm.data.folders import load_folder
from keras_fmm.data.image_files import load_image
from keras_fmm.data.loading import is_path, load
from keras_fmm.data.preprocessing import preprocessing
from keras_fmm.data.saved import load_arrays, save_arrays

__all__ = [
    "ImageDataset",
    "is_path",
    "load",
    "load_arrays",
    "load_folder",
    "load_image",
    "preprocessing",
    "save_arrays",
]
