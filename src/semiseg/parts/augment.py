"""The weak view (geometry, in the worker, on bytes) and the strong view (colour and blur, on the device)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from semiseg.config.options import AugmentOptions
from semiseg.parts.focus import focused, nearest_pixels
from semiseg.parts.part_resize import resized_part
from semiseg.runtime.distributed import own_rows, world_size
from semiseg.runtime.precision import full_precision
from semiseg.types import IGNORE

MEAN = (0.485, 0.456, 0.406)
"""ImageNet's mean colour, RGB in [0, 1]."""
STD = (0.229, 0.224, 0.225)
"""ImageNet's standard deviation per channel, RGB in [0, 1]."""

BLUR_SIGMA = (0.1, 2.0)  # pixels
BLUR_RADIUS = 6  # pixels: three times the largest sigma, so that every sample's kernel has one size
LUMA = (0.299, 0.587, 0.114)  # the Y of YIQ
CHROMA = ((0.596, -0.274, -0.322), (0.211, -0.523, 0.312))  # I and Q; each row sums to 0, so a gray has no chroma

# A byte has 256 values, so normalising looks them up, exactly the same on every device.
_TABLE = ((np.arange(256)[:, None] / 255 - np.array(MEAN)) / np.array(STD)).astype(np.float32)  # (256, 3)


def figures_of(bands: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation by which batches of so many bands are normalised: ImageNet's; of other than three bands the
    averages of its three."""
    if bands == 3:
        return MEAN, STD
    mean, std = (round(sum(figures) / 3, 6) for figures in (MEAN, STD))
    return (mean,) * bands, (std,) * bands


def normalise(image: Tensor) -> Tensor:
    """Images (..., H, W, 3) uint8 RGB -> (..., 3, H, W) float32, minus MEAN, over STD; on the images' device.

    (..., H, W, N) float32 in [0, 1] -> (..., N, H, W), by `figures_of` N bands; NaN becomes 0, the mean.
    The channels stay last in memory. Nothing waits for the device.
    """
    if image.dtype == torch.float32:
        mean, std = (_channels(figures, image).flatten() for figures in figures_of(image.shape[-1]))
        return ((image - mean) / std).nan_to_num_(0.0).movedim(-1, -3)
    looked_up = _looked_up_on_cpu(image) if image.device.type == "cpu" else _looked_up(image)
    return looked_up.movedim(-1, -3)


def _looked_up(image: Tensor) -> Tensor:
    table = torch.from_numpy(_TABLE).to(image.device, non_blocking=True)
    return table.take(3 * image.long() + torch.arange(3, device=image.device))


def _looked_up_on_cpu(image: Tensor) -> Tensor:
    """The same ten times faster."""
    import cv2  # here and in `weak_view`: who imports a method does without it

    rows = image.reshape(-1, *image.shape[-2:]).numpy()  # OpenCV takes one picture: all below one another
    return torch.from_numpy(cv2.LUT(rows, _TABLE[None])).view(image.shape)


def as_batch(image: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
    """One image, as `normalise` takes it, (H, W, N) -> a batch of it (1, N, H, W) float32, normalised."""
    return normalise(torch.tensor(image))[None].contiguous()


def denormalise(image: Tensor) -> Tensor:
    """Normalised (..., N, H, W) -> bands of the same shape, in [0, 1]; a crop's frame becomes the mean colour."""
    mean, std = (_channels(figures, image) for figures in figures_of(image.shape[-3]))
    return image * std + mean


def weak_view(
    image: NDArray[np.uint8] | NDArray[np.float32],
    label: NDArray[np.uint8] | None,
    options: AugmentOptions,
    pad_label: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Random resize, flip and crop of an image and its label together (the transform of U2PL and the paper, 4.1).

    Beyond the paper: `augment.turn` turns the view by a quarter, and `augment.focus` places some of the labelled crops
    around a class that is not the mask's most common one (`parts.focus`).

    One scale for both axes: as likely from U(scale_min, 1) as from U(1, scale_max). Where the crop is larger than the
    resized image, a frame goes around it, an odd pixel right or below; it is 0 in the image, `pad_label` in the label
    and False in `valid`. The label takes the nearest pixel by its middle; U2PL's rounds coordinates down, which moves a
    shrunk label by up to half a pixel against its image.

    image (H, W, 3) uint8, RGB; label (H, W) uint8, or None for an unlabelled image. rng: always the same number of
    draws for the same options. Returns image (h, w, 3) uint8, label (h, w) uint8 or None, valid (h, w) bool; h x w is
    the crop. In bytes: `normalise` follows on the device, so that a quarter of the numbers' size is carried there.

    An image of bands is (H, W, N) float32 in [0, 1]. Its NaN pixels, and the ones that the resize mixes with them, are
    0, IGNORE in the label and False in `valid`.
    """
    frame = (options.crop_height, options.crop_width)
    size = _scaled(image.shape[:2], options, rng)
    flips = rng.random(2) < (options.flip, options.flip_vertical)
    turns = _turns(options, rng)
    crop = (frame[1], frame[0]) if turns else frame
    window = tuple(_window(length, side, rng) for length, side in zip(size, crop, strict=True))
    if options.focus and label is not None:
        window = focused(label, size, crop, window, share=options.focus, rng=rng)
    part = resized_part(image, size, window)
    pixels, known = _moved(part.reshape(*part.shape[:2], -1), flips, turns), None  # OpenCV drops the axis of one band
    if pixels.dtype != np.uint8:
        known = np.isfinite(pixels[..., 0])  # NaN is in every band, or in none
        pixels = np.nan_to_num(pixels)
    view = _framed(pixels, frame, 0)  # (h, w, N)
    valid = _framed(np.ones(pixels.shape[:2], bool) if known is None else known, frame, False)  # (h, w)
    if label is None:
        return torch.from_numpy(view), None, torch.from_numpy(valid)
    shown = _moved(nearest_pixels(label, size, window), flips, turns)
    shown = shown if known is None else np.where(known, shown, np.uint8(IGNORE))
    target = _framed(shown, frame, pad_label)  # (h, w)
    return torch.from_numpy(view), torch.from_numpy(target), torch.from_numpy(valid)


class StrongParameters(NamedTuple):
    """What `strong_view` does to each sample of a batch; every field is (B,), on the CPU."""

    brightness: Tensor  # factor; 1 leaves the image
    contrast: Tensor  # factor on the distance to the image's mean luma; 1 leaves it
    saturation: Tensor  # factor on the distance to the pixel's own luma; 1 leaves it
    hue: Tensor  # turns; 0 leaves it
    gray: Tensor  # bool
    sigma: Tensor  # pixels; 0 does not blur


def draw_strong(batch: int, options: AugmentOptions, generator: torch.Generator) -> StrongParameters:
    """Parameters for the `batch` samples of this process. `generator` is on the CPU: every device draws the same."""
    every = torch.rand(8, batch * world_size(), generator=generator)
    chance_jitter, chance_gray, chance_blur, *uniform = (own_rows(draw) for draw in every)  # each (B,)
    jitter = chance_jitter < options.jitter_probability

    def factor(draw: Tensor, spread: float) -> Tensor:
        low, high = max(0.0, 1 - spread), 1 + spread
        return torch.where(jitter, low + draw * (high - low), 1.0)

    low, high = BLUR_SIGMA
    return StrongParameters(
        brightness=factor(uniform[0], options.brightness),
        contrast=factor(uniform[1], options.contrast),
        saturation=factor(uniform[2], options.saturation),
        hue=torch.where(jitter, (2 * uniform[3] - 1) * options.hue, 0.0),
        gray=chance_gray < options.gray_probability,
        sigma=torch.where(chance_blur < options.blur_probability, low + uniform[4] * (high - low), 0.0),
    )


def strong_view(image: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Colour jitter, gray and blur, drawn for each sample apart; float32 even under autocast, no wait for the device.

    The hue is turned as an angle in the I-Q plane of YIQ, which keeps the luma; it is not HSV's hue. The frame of a
    weak view changes colour with its image and counts in the mean that contrast turns about; that is harmless, because
    no loss reads it.

    Of other than three bands, which are no colours, only brightness and contrast change, alike in every band and the
    contrast about each band's own mean; saturation, hue and gray are drawn and left alone.

    image (B, N, H, W) normalised, on any device; H and W above BLUR_RADIUS. generator: on the CPU. Returns (B, N, H, W)
    float32 on the image's device; a sample that nothing was drawn for comes back unchanged.
    """
    parameters = draw_strong(image.shape[0], options, generator)
    with full_precision(image.device):
        change = _recolour if image.shape[1] == 3 else _rebalance
        return _blur(change(image.float(), parameters), parameters.sigma)


def some_strong_views(image: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Strong views of a share `labeled_colors` of the samples, each drawn by itself; the others are as they were.

    image (B, N, H, W), generator and errors as `strong_view`. Returns (B, N, H, W).
    """
    chances = own_rows(torch.rand(image.shape[0] * world_size(), generator=generator))
    chosen = (chances < options.labeled_colors).to(image.device, non_blocking=True)
    return torch.where(chosen[:, None, None, None], strong_view(image, options, generator), image)


def gaussian_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise for a batch (B, ...), on its device. `generator` is on the CPU.

    It is drawn for the images of all processes: 0.1 s for 16 crops of 513 x 513.
    """
    shape = (len(like) * world_size(), *like.shape[1:])
    return own_rows(torch.randn(shape, generator=generator)).to(like.device, non_blocking=True)


def _scaled(size: tuple[int, ...], options: AugmentOptions, rng: np.random.Generator) -> tuple[int, int]:
    """Height and width after the random resize."""
    coin, position = rng.random(2)
    low, high = (options.scale_min, 1.0) if coin < 0.5 else (1.0, options.scale_max)
    scale = low + position * (high - low)
    height, width = (max(1, int(length * scale)) for length in size)
    return height, width


def _window(length: int, crop: int, rng: np.random.Generator) -> slice:
    """A random window of `crop` pixels, or all of a shorter side."""
    start = int(rng.integers(max(length - crop, 0), endpoint=True))
    return slice(start, min(start + crop, length))


def _turns(options: AugmentOptions, rng: np.random.Generator) -> int:
    """Quarter turns of a view: 0, or 1 or 3 with the probability `turn`. Nothing is drawn where they are off."""
    if not options.turn:
        return 0
    chance, side = rng.random(2)
    return (1 if side < 0.5 else 3) if chance < options.turn else 0


def _moved(array: NDArray, flips: NDArray[np.bool_], turns: int) -> NDArray:
    """(H, W, ...) flipped, then turned. To flip the window is to flip the image: the window is uniform over it."""
    horizontal, vertical = flips
    return np.rot90(array[:: -1 if vertical else 1, :: -1 if horizontal else 1], turns)


def _framed(array: NDArray, size: tuple[int, int], value: float) -> NDArray:
    """(h, w, ...) in the middle of (*size, ...); an odd pixel goes right or below."""
    height, width = array.shape[:2]
    if (height, width) == size:
        return np.ascontiguousarray(array)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    framed = np.full((*size, *array.shape[2:]), value, array.dtype)
    framed[top : top + height, left : left + width] = array
    return framed


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    # Made on the host and sent without waiting; nothing here belongs to one device.
    return torch.tensor(values).to(like.device, non_blocking=True).view(-1, 1, 1)


def _recolour(image: Tensor, parameters: StrongParameters) -> Tensor:
    """Brightness, contrast, saturation, hue and gray as one affine map of RGB per sample."""
    matrix = _colour_matrices(parameters).to(image.device, non_blocking=True)  # (B, 3, 3)
    shift = ((1 - parameters.contrast) * parameters.brightness).to(image.device, non_blocking=True)  # (B,)
    factors = torch.stack([parameters.brightness, parameters.contrast, parameters.saturation])
    touched = (factors != 1).any(0) | (parameters.hue != 0) | parameters.gray  # (B,)
    touched = touched.to(image.device, non_blocking=True)

    rgb = denormalise(image)
    luma = (rgb.mean((2, 3)) * _channels(LUMA, image).view(3)).sum(1)  # (B,), the mean of each image
    # The later maps leave grays alone, so what contrast adds to all three channels passes through them unchanged.
    rgb = torch.einsum("bij,bjhw->bihw", matrix, rgb) + (shift * luma).view(-1, 1, 1, 1)
    recoloured = (rgb.clamp(0, 1) - _channels(MEAN, image)) / _channels(STD, image)
    return torch.where(touched.view(-1, 1, 1, 1), recoloured, image)


def _rebalance(image: Tensor, parameters: StrongParameters) -> Tensor:
    """Brightness and contrast of bands that are no colours."""
    mean, std = (_channels(figures, image) for figures in figures_of(image.shape[1]))
    brightness, contrast = (
        each.to(image.device, non_blocking=True).view(-1, 1, 1, 1)
        for each in (parameters.brightness, parameters.contrast)
    )
    bands = denormalise(image) * brightness
    middle = bands.mean((2, 3), keepdim=True)  # (B, N, 1, 1)
    changed = ((middle + contrast * (bands - middle)).clamp(0, 1) - mean) / std
    return torch.where((brightness != 1) | (contrast != 1), changed, image)


def _colour_matrices(parameters: StrongParameters) -> Tensor:
    """gray x hue x saturation x contrast x brightness, (B, 3, 3). The last two are factors here; see `_recolour`."""
    to_yiq = torch.tensor((LUMA, *CHROMA))
    to_rgb = torch.linalg.inv(to_yiq)
    angle = 2 * torch.pi * parameters.hue
    chroma = parameters.saturation * ~parameters.gray  # how long I and Q become; (B,)
    cos, sin = chroma * angle.cos(), chroma * angle.sin()
    one, zero = torch.ones_like(cos), torch.zeros_like(cos)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    factor = parameters.brightness * parameters.contrast
    return factor.view(-1, 1, 1) * (to_rgb @ turn @ to_yiq)


def _blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Each sample with its own Gaussian: two passes of a convolution whose groups are the batch's channels."""
    channels = image.shape[1]
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1)
    kernel = torch.softmax(-0.5 * (offsets / sigma.clamp(min=BLUR_SIGMA[0])[:, None]) ** 2, 1)  # (B, taps)
    kernel = kernel.repeat_interleave(channels, 0).to(image.device, non_blocking=True)  # (3B, taps)

    planes = F.pad(image, [BLUR_RADIUS] * 4, mode="reflect").flatten(0, 1)[None]  # (1, 3B, H + 12, W + 12)
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=len(kernel))
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=len(kernel))
    blurred = (sigma > 0).to(image.device, non_blocking=True).view(-1, 1, 1, 1)
    return torch.where(blurred, planes.view_as(image), image)
