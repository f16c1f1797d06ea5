"""Read the masks of the Semantic Boundaries Dataset as they come: MATLAB's files.

Reference: Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

try:
    from scipy.io import loadmat
except ModuleNotFoundError:
    loadmat = None

SUFFIX = ".mat"


def read_sbd_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read the classes of a file of SBD's folder ``cls``, numbered as VOC's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none of SBD's, or the part that reads it is not installed.
    """
    if loadmat is None:
        raise ValueError(f"{path} is read with an optional part: pip install 'mobilevision[sbd]'")
    data = path.open("rb")
    try:
        with data:
            mask = loadmat(data, variable_names=["GTcls"], simplify_cells=True)["GTcls"]["Segmentation"]
    # Its readers raise almost anything at a broken file.
    except Exception as error:
        raise ValueError(f"{path} does not decode as a mask of SBD with GTcls.Segmentation") from error
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"{path} must hold a picture of 8-bit classes in GTcls.Segmentation")
    return mask
