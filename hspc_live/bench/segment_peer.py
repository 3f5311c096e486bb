"""What one would write from scikit-image's examples: the peers that segmentation is timed beside.

`still_peer` finds cells in a field by its local standard deviation; `flow_peer` by the difference from a background.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import skimage.feature
import skimage.filters
import skimage.measure
import skimage.morphology
import skimage.segmentation
from numpy.typing import NDArray
from scipy import ndimage

from hspc_live.core.values import Pixels

feature: Any = skimage.feature  # most of scikit-image is not annotated
filters: Any = skimage.filters
measure: Any = skimage.measure
morphology: Any = skimage.morphology
segmentation: Any = skimage.segmentation

UM_PER_PX: Final = 0.25
"""Of the pictures that `still_peer` is made for: its lengths are pixels."""

WINDOW_PX: Final = 7
SMALLEST_PX: Final = 500
APART_PX: Final = 20
DISC_PX: Final = 5  # 3 is quicker, and finds and outlines the cells less well

_FLOW_LEVEL: Final = 3.0  # standard deviations of the noise after the Gaussian
_FLOW_SMALLEST_UM2: Final = 7.0  # a disc of 3 µm
_PROPERTIES: Final = ("centroid", "area", "equivalent_diameter_area")


def still_peer(pixels: Pixels) -> NDArray[np.int32]:
    """Label image of a still field; the region properties are made and dropped, as ours makes its rows.

    Local standard deviation → Otsu → closing, filling, opening, small objects away → watershed of the distance
    transform → region properties.
    """
    image = pixels.astype(float)
    mean = ndimage.uniform_filter(image, WINDOW_PX)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(image * image, WINDOW_PX) - mean * mean, 0.0))
    mask = morphology.closing(spread > filters.threshold_otsu(spread), morphology.disk(DISC_PX))
    mask = morphology.opening(ndimage.binary_fill_holes(mask), morphology.disk(DISC_PX))
    mask = morphology.remove_small_objects(mask, max_size=SMALLEST_PX)
    distance = ndimage.distance_transform_edt(mask)
    smooth = ndimage.gaussian_filter(distance, 2)
    peaks = feature.peak_local_max(smooth, min_distance=APART_PX, labels=measure.label(mask))
    markers = np.zeros(pixels.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels: NDArray[np.int32] = segmentation.watershed(-distance, markers, mask=mask)
    measure.regionprops_table(labels, properties=_PROPERTIES)
    return labels


def flow_peer(pixels: Pixels, background: Pixels, um_per_px: float) -> NDArray[np.int32]:
    """Label image of a frame of a flow, given its background; region properties as above.

    Difference → Gaussian → a level above the noise → closing, filling, small objects away → labels.
    """
    difference = np.abs(filters.gaussian(pixels.astype(np.float32) - background, sigma=1.0, preserve_range=True))
    level = _FLOW_LEVEL * 1.4826 * float(np.median(difference))
    mask = morphology.closing(difference > level, morphology.disk(max(1, round(0.7 / um_per_px))))
    mask = ndimage.binary_fill_holes(mask)
    mask = morphology.remove_small_objects(mask, max_size=round(_FLOW_SMALLEST_UM2 / um_per_px**2))
    labels: NDArray[np.int32] = measure.label(mask)
    measure.regionprops_table(labels, properties=_PROPERTIES)
    return labels
