"""Image classification datasets by name: NumPy arrays, tf.data pipelines, input scaling."""

from keras_fmm.data.datasets import ImageDataset
from keras_fmm.data.image_files import load_image
from keras_fmm.data.loading import load
from keras_fmm.data.preprocessing import preprocessing
from keras_fmm.data.saved import load_arrays, save_arrays

__all__ = ["ImageDataset", "load", "load_arrays", "load_image", "preprocessing", "save_arrays"]
