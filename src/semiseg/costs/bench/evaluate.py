"""Evaluation and the start of the prototypes: whole images, windows one by one and in batches, and the counting."""

from __future__ import annotations

import torch

from semiseg.config.options import EvaluationOptions, NetworkOptions
from semiseg.costs.bench.table import Table
from semiseg.evaluation.metrics import Calibration, ConfusionMatrix
from semiseg.evaluation.windows import predict_image
from semiseg.networks import build
from semiseg.parts.prototype_predictor import PrototypePredictor
from semiseg.runtime.timing import Call, median_seconds

CPU, GPU = ("resnet18", 129, (360, 480)), ("resnet101s", 769, (1024, 2048))  # encoder, window, image
CLASSES, CHANNELS, PIXELS = 21, 512, 5_000  # K-means: pixels per class


def bench_evaluate(device: torch.device, repeats: int = 5) -> list[Table]:
    """Three tables: prediction of an image, the counting, the K-means start."""
    return [_prediction(device, repeats), _counting(device, repeats), _kmeans(repeats)]


def _prediction(device: torch.device, repeats: int) -> Table:
    encoder, window, size = GPU if device.type == "cuda" else CPU
    network = build(NetworkOptions(encoder=encoder, weights="none", multi_grid=False), 19).to(device).eval()
    image = torch.randn(1, 3, *size, device=device)
    stride = window * 2 // 3
    ways = {
        "whole": EvaluationOptions(),
        "windows, one at a time": EvaluationOptions(protocol="slide", window=window, stride=stride, windows_at_once=1),
        "windows, four at a time": EvaluationOptions(protocol="slide", window=window, stride=stride, windows_at_once=4),
    }

    @torch.inference_mode()
    def predicted(options: EvaluationOptions) -> object:
        return predict_image(lambda part: {"linear": network(part).logits}, image, size, options)

    calls: dict[str, Call] = {name: lambda way=way: predicted(way) for name, way in ways.items()}
    seconds = median_seconds(calls, repeats, device)
    rows = [{"way": name, "ms": round(1000 * spent, 1)} for name, spent in seconds.items()]
    _, single, batched = seconds.values()
    note = f"Windows in batches take {batched / single:.2f} of the time of one at a time."
    return Table(f"prediction of {size[0]}x{size[1]} pixels, {encoder}, windows of {window}", rows, note)


def _counting(device: torch.device, repeats: int) -> Table:
    logits = torch.randn(1, CLASSES, 512, 512, device=device)
    label = torch.randint(CLASSES, (512, 512), device=device)
    calls: dict[str, Call] = {
        "softmax and its largest": lambda: logits.softmax(1).max(1),
        "calibration": lambda: Calibration.of(*logits.softmax(1).max(1), label[None]),
        "confusion matrix": lambda: ConfusionMatrix.of(logits.argmax(1)[0], label, CLASSES),
    }
    seconds = median_seconds(calls, repeats, device)
    return Table("counting, 512x512 pixels", [{"what": n, "ms": round(1000 * s, 2)} for n, s in seconds.items()])


def _kmeans(repeats: int) -> Table:
    predictor = PrototypePredictor(2, 4, CHANNELS)
    features = torch.randn(2 * PIXELS, CHANNELS)
    label = torch.arange(2 * PIXELS) % 2
    call: dict[str, Call] = {"start": lambda: predictor.start(features, label, 0)}
    seconds = median_seconds(call, min(repeats, 3), torch.device("cpu"))["start"]
    row = {"pixels per class": PIXELS, "s per class": round(seconds / 2, 3)}
    return Table("K-means start, 512 channels, K = 4", [row])
