"""Grad-CAM after each epoch, in TensorBoard."""

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.analysis import grad_cam
from keras_fmm.plots.heat_maps import heat_map_overlay


class GradCAMCallback(keras.callbacks.Callback):
    """Writes pictures of Grad-CAM on given images to TensorBoard at the end of each epoch.

    They stand under the run "grad_cam", in a folder of their own below `log_dir`: TensorBoard
    reads one of several files that are written to at once in a folder. What cannot be drawn,
    such as a layer of an unknown name, stops `fit` before its first step.

    Args:
        log_dir: str or `os.PathLike`. As of `keras.callbacks.TensorBoard`.
        images: array `(n, height, width, channels)`. Some of the validation images.
        class_index: int or array of n int, default None. As of `analysis.grad_cam`: the labels of
            `images` show what speaks for the right class, None what speaks for the predicted one.
        layer: str, default None. As of `analysis.grad_cam`.
        batch_size: int, at least 1, default 32. The images that are run at once.

    Raises:
        ImportError: in `fit`, matplotlib, TensorBoard, TensorFlow, which writes for it, or
            tf-explain is absent; they are in the extras `plots`, `tensorflow` and `explain`.

    Example:

    >>> import tempfile, pathlib, numpy as np
    >>> from keras_fmm import models
    >>> images, labels = np.random.rand(4, 8, 8, 3), np.array([0, 1, 2, 3])
    >>> model = models.ToyCNN(input_shape=(8, 8, 3))
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> callback = GradCAMCallback(folder, images[:2], labels[:2])
    >>> _ = model.fit(images, labels, verbose=0, callbacks=[callback])
    >>> len(list((folder / "grad_cam").iterdir()))
    1
    """

    def __init__(
        self,
        log_dir: hints.Path,
        images: hints.ArrayLike,
        class_index: hints.ArrayLike | None = None,
        layer: str | None = None,
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        self.log_dir = checks.path("log_dir", log_dir)
        self.images = checks.real_array("images", images)
        self.class_index = class_index
        self.layer = layer
        self.batch_size = checks.positive_integer("batch_size", batch_size)
        self._writer = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        tf = checks.package("tensorflow", "Writing pictures", "tensorflow")
        checks.package("tensorboard", "Writing pictures", "plots")
        self._picture()
        self._writer = tf.summary.create_file_writer(str(self.log_dir / "grad_cam"))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        import tensorflow as tf

        picture = self._picture()
        with self._writer.as_default(), tf.summary.record_if(True):
            tf.summary.image("grad_cam", picture[None], step=epoch)
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._writer.close()

    def _picture(self):
        """Returns the figure as an array `(height, width, 3)` of uint8."""
        agg = checks.package("matplotlib.backends.backend_agg", "Drawing", "plots")
        maps = grad_cam(self.model, self.images, self.class_index, self.layer, self.batch_size)
        canvas = agg.FigureCanvasAgg(heat_map_overlay(self.images, maps))
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3]
