"""What every experiment's config holds."""

import ml_collections


def mesh() -> ml_collections.ConfigDict:
    """Give the devices' arrangement: their number is the product of the first three."""
    config = ml_collections.ConfigDict()
    config.data = 1  # ways that samples are split; one of the three may be -1: what is left
    config.fsdp = -1  # ways that samples are split, and parameters with all that belongs to them
    config.frames = 1  # ways that the frames of a clip are split
    config.split_from = 2**16  # numbers; smaller tensors are copied, not split
    return config
