"""Low-level agreement of a reconstruction with its stimulus."""

import numpy as np
from jaxtyping import Float, Real, UInt8
from scipy.ndimage import gaussian_filter

_LUMA = np.array([0.2125, 0.7154, 0.0721])
_SIGMA = 1.5
_RADIUS = 5


def check_pairs(a: UInt8[np.ndarray, "b y x c"], b: UInt8[np.ndarray, "b y x c"]) -> None:
    """Checks that two image stacks are uint8, RGB and of one shape.

    Raises:
        ValueError: if they are not.
    """
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(
            f"Images to compare must be uint8 in 0..255, found {a.dtype} and {b.dtype}: "
            "convert both to uint8 first."
        )
    if a.ndim != 4 or a.shape[-1] != 3 or a.shape != b.shape:
        raise ValueError(
            f"Images to compare must both have one shape [b, y, x, 3], found {a.shape} and "
            f"{b.shape}: resize or select before comparing."
        )


def standardise(values: Real[np.ndarray, "b f"]) -> Float[np.ndarray, "b f"]:
    """Rows less their mean, at unit length, so that a dot product is Pearson's r.

    A constant row becomes zeros: its correlation with anything is 0 (as in the released code,
    which sets an undefined pixel correlation to 0).
    """
    values = np.asarray(values, np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    # A constant row leaves rounding noise of its own magnitude after centring.
    negligible = norm <= 1e-12 * np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(negligible, 0.0, centred / np.where(negligible, 1.0, norm))


def pixel_correlation(
    a: UInt8[np.ndarray, "b y x c"], b: UInt8[np.ndarray, "b y x c"]
) -> Float[np.ndarray, " b"]:
    """Pearson correlation of all pixel values, channels flattened, per image pair (PixCorr).

    Published scores resize to 425 x 425 first; here the images' own resolution is used.

    Args:
        a: images, 0..255.
        b: images to compare with, same order.

    Returns:
        Correlations in [-1, 1], 0 where an image is constant.

    Raises:
        ValueError: if the stacks are not uint8 RGB of one shape.
    """
    check_pairs(a, b)
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return np.einsum("bf,bf->b", standardise(flat_a), standardise(flat_b))


def ssim(
    a: UInt8[np.ndarray, "b y x c"], b: UInt8[np.ndarray, "b y x c"]
) -> Float[np.ndarray, " b"]:
    """Structural similarity of the grey images (Wang et al. 2004), per image pair.

    SSIM = mean over pixels of
        (2 mu_a mu_b + C1) (2 cov_ab + C2) / ((mu_a^2 + mu_b^2 + C1) (var_a + var_b + C2))
    with C1 = 0.01^2, C2 = 0.03^2, grey values in [0, 1] and Gaussian windows of sigma 1.5 cut
    at 5 pixels; population covariances; a border of 5 pixels is left out. These are
    scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1)`` on ``rgb2gray``, as MindEye and NeuroAdapter
    call it, at the images' own resolution.

    Args:
        a: images, 0..255, at least 11 pixels a side.
        b: images to compare with, same order.

    Returns:
        Similarities in [-1, 1].

    Raises:
        ValueError: if the stacks are not uint8 RGB of one shape, or too small.
    """
    check_pairs(a, b)
    if min(a.shape[1:3]) < 2 * _RADIUS + 1:
        raise ValueError(
            f"SSIM needs images of at least 11 x 11 pixels, found {a.shape[1]} x {a.shape[2]}: "
            "enlarge them first."
        )
    x, y = (stack @ _LUMA / 255.0 for stack in (a, b))

    def blur(image: Float[np.ndarray, "b y x"]) -> Float[np.ndarray, "b y x"]:
        return gaussian_filter(image, (0, _SIGMA, _SIGMA), radius=(0, _RADIUS, _RADIUS))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return similarity[:, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS].mean(axis=(1, 2))
