"""What the tests of several networks share."""

import torch


def stretch_matrix(inputs: int, outputs: int) -> torch.Tensor:
    """Linear interpolation from `inputs` to `outputs` points that share their first and last."""
    matrix = torch.zeros(outputs, inputs, dtype=torch.float64)
    for row in range(outputs):
        place = row * (inputs - 1) / (outputs - 1) if outputs > 1 else 0.0
        left = min(int(place), inputs - 1)
        right = min(left + 1, inputs - 1)
        matrix[row, left] += 1 - (place - left)
        matrix[row, right] += place - left
    return matrix


def stretch(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    rows, columns = (stretch_matrix(old, new) for old, new in zip(maps.shape[-2:], size, strict=True))
    return rows @ maps @ columns.T
