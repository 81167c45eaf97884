"""Which way up an image is that carries EXIF's orientation.

People, OpenCV and browsers see it turned. Tools for annotation have drawn
their boxes and masks on either view, and do not say on which.
"""

import numpy as np
from PIL import Image

TAG = 0x0112
# What is done to rows and columns; 5 to 8 exchange these before.
STEPS = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}
STORED, TURNED, UNCLEAR = 'stored', 'turned', 'unclear'


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8, of an open image; 1 without a sound tag."""
    try:
        value = image.getexif().get(TAG, 1)
    except Exception:  # a damaged block is as good as none
        return 1
    return value if value in range(1, 9) else 1


def annotated_view(
    size: tuple[int, int], orientation: int, annotated: tuple[int, int]
) -> str | None:
    """The view of an image that an annotation of a certain size is of.

    Args:
        size (tuple[int]): Width and height of the image as stored.
        orientation (int): EXIF's, 1 to 8.
        annotated (tuple[int]): Width and height that the annotation has or states.

    Returns:
        str | None: 'stored' or 'turned' where the size tells; 'unclear' where
        both views have it and are not the same; None where none has it.
    """
    exchanged = orientation > 4
    if size == annotated:
        same = not exchanged or size[0] == size[1]
        return UNCLEAR if orientation > 1 and same else STORED
    return TURNED if exchanged and size[::-1] == annotated else None


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image (H, W, ...) as people see it, from its pixels as stored."""
    if orientation > 4:
        image, orientation = image.swapaxes(0, 1), orientation - 4
    rows, columns = STEPS[orientation]
    return np.ascontiguousarray(image[::rows, ::columns])
