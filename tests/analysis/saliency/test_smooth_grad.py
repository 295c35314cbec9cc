import numpy as np
import pytest

from keras_fmm import analysis
from tests.analysis.saliency.saliency_models import CLASSES, IMAGES, linear, quadratic


def test_a_linear_models_is_its_kernel():
    model, kernel, _ = linear()
    found = analysis.smooth_grad(model, IMAGES, CLASSES, num_samples=3, noise=5.0)
    assert (found.dtype, found.shape) == ("float32", IMAGES.shape)
    np.testing.assert_allclose(found, kernel[CLASSES], rtol=1e-5)


def test_without_noise_it_is_the_gradient():
    model, kernel = quadratic()
    found = analysis.smooth_grad(model, IMAGES, 2, num_samples=2, noise=0)
    np.testing.assert_allclose(found, 2 * IMAGES * kernel[2], rtol=1e-5)


def test_noise_is_a_share_of_each_images_range():
    model, kernel = quadratic()
    # The gradient is 2 * kernel * (image + noise): one sample shows the noise itself.
    images = np.stack([IMAGES[0], 100 * IMAGES[0]])
    found = analysis.smooth_grad(model, images, 0, num_samples=1, noise=0.2)
    noise = found / (2 * kernel[0]) - images
    for part, image in zip(noise, images, strict=True):
        assert 0.7 < part.std() / (0.2 * np.ptp(image)) < 1.3
        assert abs(part.mean()) < 0.5 * part.std()
    assert np.abs(noise[1] / 100 - noise[0]).max() > 1e-3


def test_the_seed_decides_and_the_batch_does_not():
    model, _ = quadratic()
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    whole = analysis.smooth_grad(model, IMAGES, 0, num_samples=3)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    split = analysis.smooth_grad(model, IMAGES, 0, num_samples=3, batch_size=6)
    np.testing.assert_allclose(split, whole, rtol=1e-5)
    other = analysis.smooth_grad(model, IMAGES, 0, num_samples=3, seed=1)
    assert np.abs(other - whole).max() > 1e-2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "`num_samples` must be a positive integer"),
        ({"noise": -1}, "`noise` must be at least 0. Received: noise=-1"),
        ({"class_index": [0]}, "one for each image"),
        ({"images": IMAGES[:, :2]}, "must be a batch of what the model takes"),
    ],
)
def test_refused(arguments, message):
    given = {"model": linear()[0], "images": IMAGES, **arguments}
    with pytest.raises(ValueError, match=message):
        analysis.smooth_grad(**given)
