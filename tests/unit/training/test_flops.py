"""Counts against open_clip's published profile, and by hand."""

import pytest
import torch

from clipcurate.training.config import ModelConfig, config_for
from clipcurate.training.flops import DEVICES, ModelFlops, named_peak, peak_of


@pytest.mark.parametrize(
    ("name", "gflops", "millions"),
    [("ViT-B-32", 14.78, 151.28), ("ViT-B-16", 41.09, 149.62), ("ViT-L-14", 175.33, 427.62)],
)
def test_forward_passes_cost_what_open_clip_publishes(
    name: str, gflops: float, millions: float
) -> None:
    """docs/model_profile.csv of open_clip: GFLOPs and million parameters."""
    flops = ModelFlops(ModelConfig(name, quick_gelu=False))
    assert (flops.image + flops.text(77)) / 1e9 == pytest.approx(gflops, abs=0.005)
    parameters = sum(p.numel() for p in flops.model.parameters()) / 1e6
    assert parameters == pytest.approx(millions, abs=0.006)


def test_a_step_of_vit_b_32_costs_44_gflop_a_pair_and_34_at_32_tokens() -> None:
    flops = ModelFlops(ModelConfig())
    assert flops.pair(77) / 1e9 == pytest.approx(44.3, abs=0.05)
    assert flops.pair(32) / 1e9 == pytest.approx(33.8, abs=0.05)


def test_a_layer_of_the_tiny_text_tower_costs_what_its_matrices_say() -> None:
    flops, width, layers, dimensions = ModelFlops(config_for("tiny").model), 96, 2, 128
    for length in (8, 24):
        matrices = (3 + 1 + 4 + 4) * width * width * length
        attention = 2 * width * length * length
        assert flops.text(length) == 2 * (layers * (matrices + attention) + width * dimensions)


def test_a_batch_costs_the_lengths_that_are_processed() -> None:
    flops = ModelFlops(config_for("tiny").model)
    shapes = [torch.Size((3, 8)), torch.Size((1, 24))]
    assert flops.pairs(4, shapes) == 3 * flops.pair(8) + flops.pair(24)


def test_peaks_go_by_the_name_of_the_gpu() -> None:
    assert named_peak("NVIDIA A100-SXM4-40GB") == 312e12
    assert named_peak("NVIDIA H100 80GB HBM3") == named_peak("NVIDIA H200") == 989.4e12
    for slower in ("H100 PCIe", "H200 NVL", "H100 80GB HBM3 MIG 1g.10gb", "GeForce RTX 4090 D"):
        assert named_peak(f"NVIDIA {slower}") is None
    assert named_peak("Tesla V100-SXM2-32GB") == DEVICES["v100-32"].tflops * 1e12
    assert peak_of(torch.device("cpu")) is None
