"""Networks that begin with a patch embedding or a plain convolutional stem."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from freqops import ChannelStatistics, block_dct
from freqops.models import from_rgb
from freqops.models._general import GridConv2d, keep, matches, normalisation, reason, refit, side
from freqops.models._network import FrequencyNetwork
from freqops.models._surgery import make_recipe

torchvision = pytest.importorskip("torchvision")
timm = pytest.importorskip("timm")

CLASSES = 5


def made(name: str, **arguments: Any) -> nn.Module:
    """A network of timm in evaluation, none of whose weights is zero."""
    torch.manual_seed(0)
    return stirred(timm.create_model(name, num_classes=CLASSES, **arguments))


def stirred(network: nn.Module) -> nn.Module:
    """Heads and class tokens begin at zero, and would hide what comes before them."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return network.eval()


def torchvision_vit(side: int = 64, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(
        image_size=side,
        patch_size=16,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        mlp_dim=64,
        num_classes=CLASSES,
        **arguments,
    )
    return stirred(network)


SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 2}
EMBEDDINGS: dict[str, Callable[[], nn.Module]] = {
    "patch 16": lambda: made("test_vit", img_size=64),
    "patch 8": lambda: made("vit_small_patch8_224", img_size=32, **SMALL),
    "patch 32": lambda: made("vit_small_patch32_224", img_size=64, **SMALL),
    "not square": lambda: made("test_vit", img_size=(48, 80)),
    "any size": lambda: made("test_vit3", img_size=64, dynamic_img_size=True),
    "deit": lambda: made("deit_tiny_distilled_patch16_224", img_size=64, **SMALL),
    "beit": lambda: made("beit_base_patch16_224", img_size=64, **SMALL),
    "rotary": lambda: made("eva02_tiny_patch14_224", img_size=64, patch_size=16, **SMALL),
    "relpos": lambda: made("test_vit_relpos", img_size=64),
    "mixer": lambda: stirred(timm.models.MlpMixer(CLASSES, 64, embed_dim=48, num_blocks=2)),
    "convmixer": lambda: stirred(timm.models.ConvMixer(32, 2, patch_size=8, num_classes=CLASSES)),
    "overlap": lambda: made("pit_ti_224", img_size=64),
    "torchvision": torchvision_vit,
}


def normalised(network: nn.Module, pictures: Tensor) -> Tensor:
    """What an RGB network is given of pictures in [0, 1]."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalisation(network))
    return (pictures - mean) / std


def photographs(network: nn.Module, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, *side(network), generator=generator)


def close(got: Tensor, want: Tensor, bound: float = 2e-5) -> None:
    """Equal to rounding, in terms of how much the wanted values differ."""
    assert want.std() > 1e-3
    assert (got - want).abs().max() < bound * want.std()


# --- patch embeddings ---


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_an_embedding_sees_in_all_channels_what_it_saw_in_the_pixels(kind: str) -> None:
    network = EMBEDDINGS[kind]()
    pictures = photographs(network)
    frequency = from_rgb(network, 192)
    with torch.no_grad():
        close(frequency(pictures), network(normalised(network, pictures)))


@pytest.mark.parametrize("kind", ["patch 16", "overlap", "torchvision"])
def test_the_projection_is_exact_in_float64(kind: str) -> None:
    network = EMBEDDINGS[kind]().double()
    pictures = photographs(network).double()
    generator = torch.Generator().manual_seed(2)
    statistics = ChannelStatistics(
        100 * torch.randn(192, generator=generator), 1 + 100 * torch.rand(192, generator=generator)
    )
    channels = torch.randperm(192, generator=generator).tolist()
    frequency = from_rgb(network, channels, statistics=statistics)
    coefficients = block_dct(pictures, channels, mean=statistics.mean, std=statistics.std)
    with torch.no_grad():
        got = frequency.network(coefficients)
        close(got, network(normalised(network, pictures)), 1e-9)


@pytest.mark.parametrize(
    ("network", "mean", "std"),
    [
        (lambda: made("vit_tiny_patch16_224", img_size=32, depth=1), [0.5] * 3, [0.5] * 3),
        (EMBEDDINGS["deit"], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        (EMBEDDINGS["torchvision"], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ],
)
def test_what_pictures_a_network_was_trained_with(
    network: Callable[[], nn.Module], mean: list[float], std: list[float]
) -> None:
    # ``normalised`` above relies on it.
    assert normalisation(network()) == (tuple(mean), tuple(std))


def test_pictures_of_bytes() -> None:
    network = EMBEDDINGS["deit"]()
    pictures = (255 * photographs(network)).to(torch.uint8)
    with torch.no_grad():
        close(from_rgb(network, 192)(pictures), network(normalised(network, pictures / 255)))


@pytest.mark.parametrize("channels", [24, 1, [70, 0, 9, 191]])
def test_channels_left_out_count_as_their_mean(channels: int | list[int]) -> None:
    network = EMBEDDINGS["patch 16"]()
    pictures = photographs(network)
    frequency = from_rgb(network, channels)
    transform = frequency.transform
    seen = transform.inverse(transform(pictures), dtype=torch.float64).float()
    assert (seen - pictures).abs().max() > 0.1
    with torch.no_grad():
        close(frequency(pictures), network(normalised(network, seen)))


def test_a_channel_read_twice_counts_once() -> None:
    network = EMBEDDINGS["patch 16"]()
    pictures = photographs(network)
    with torch.no_grad():
        got = from_rgb(network, [0, 64, 0, 9, 0])(pictures)
        close(got, from_rgb(network, [0, 9, 64])(pictures))


def test_an_embedding_without_bias_gains_one() -> None:
    network = made("test_vit", img_size=64, pre_norm=True)  # its embedding has none
    frequency = from_rgb(network, 192)
    gained = frequency.network.state_dict().keys() - network.state_dict().keys()
    assert gained == {"patch_embed.proj.bias"}
    assert frequency.recipe.changes[0].endswith("projected, bias added")
    pictures = photographs(network)
    with torch.no_grad():
        close(frequency(pictures), network(normalised(network, pictures)))


def test_an_embedding_can_be_drawn_anew() -> None:
    network = EMBEDDINGS["patch 16"]()
    torch.manual_seed(3)
    conv = from_rgb(network, 24, init="kaiming").network.get_submodule("patch_embed.proj")
    assert isinstance(conv, nn.Conv2d)
    old = network.get_submodule("patch_embed.proj")
    assert conv.weight.shape == (64, 24, 2, 2)
    assert torch.equal(conv.bias, old.bias)
    # Variance 2 / (O kh kw).
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 4)) ** 0.5, rel=0.03)


def test_a_timm_embedding_measures_in_blocks() -> None:
    network = EMBEDDINGS["patch 16"]()
    embed = from_rgb(network, 24).network.patch_embed
    assert (embed.patch_size, embed.img_size, embed.grid_size) == ((2, 2), (8, 8), (4, 4))
    assert embed.num_patches == 16 and embed.feat_ratio() == 2
    assert embed.dynamic_feat_size((8, 12)) == (4, 6)


def test_sizes_that_the_network_checks_are_those_of_the_grid() -> None:
    for network, kind in (
        (made("test_vit", img_size=64), AssertionError),
        (torchvision_vit(), Exception),
    ):
        frequency = from_rgb(network, 24)
        assert frequency(torch.zeros(1, 3, 57, 64)).shape == (1, CLASSES)  # 8 x 8 blocks
        with pytest.raises(kind, match="height"):
            frequency(torch.zeros(1, 3, 72, 64))


def test_pictures_of_other_sizes() -> None:
    network = EMBEDDINGS["any size"]()
    frequency = from_rgb(network, 192)
    pictures = torch.rand(1, 3, 96, 48, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        close(frequency(pictures), network(normalised(network, pictures)))


def test_pictures_of_sizes_that_are_padded() -> None:
    network = made("test_vit", img_size=64, dynamic_img_size=True, dynamic_img_pad=True)
    frequency = from_rgb(network, 192)
    assert frequency(torch.zeros(1, 3, 40, 50)).shape == (1, CLASSES)  # 5 x 7 blocks, 3 x 4 patches


def test_features_of_a_transformer() -> None:
    network = EMBEDDINGS["patch 16"]()
    frequency = from_rgb(network, 192)
    pictures = photographs(network)
    with torch.no_grad():
        want = network.forward_intermediates(normalised(network, pictures))[1]
        got = frequency.network.forward_intermediates(frequency.transform(pictures))[1]
    for ours, theirs in zip(got, want, strict=True):
        close(ours, theirs)
    reductions = {feature["reduction"] for feature in frequency.network.feature_info}
    assert reductions == {2} and network.feature_info[0]["reduction"] == 16


# --- stems ---

STEMS: dict[str, Callable[[], nn.Module]] = {
    "efficientnet": lambda: made("test_efficientnet"),
    "padded as tensorflow": lambda: made("tf_efficientnet_lite0"),
    "mobilenetv3": lambda: made("mobilenetv3_small_050"),
    "regnet": lambda: made("regnety_002"),
    "byobnet": lambda: made("test_byobnet"),
    "convnext": lambda: made("test_convnext"),
    "mambaout": lambda: made("test_mambaout"),
    "maxvit": lambda: made("test_maxvit", img_size=64),
    "swin": lambda: made(
        "swin_tiny_patch4_window7_224",
        img_size=32,
        window_size=4,
        embed_dim=24,
        depths=(1, 1),
        num_heads=(1, 2),
    ),
    "xcit": lambda: made("xcit_nano_12_p16_224", depth=1),
    "levit": lambda: made("levit_128s"),
    "torchvision densenet": lambda: torchvision.models.DenseNet(
        8, (2, 2), 16, num_classes=CLASSES
    ).eval(),
    "torchvision convnext": lambda: torchvision.models.convnext_tiny(num_classes=CLASSES).eval(),
    "torchvision squeezenet": lambda: torchvision.models.squeezenet1_1(num_classes=CLASSES).eval(),
    "torchvision swin": lambda: torchvision.models.SwinTransformer(
        [4, 4], 24, [1, 1], [1, 2], [4, 4], num_classes=CLASSES
    ).eval(),
}
TIMES = {"convnext": 2, "swin": 2, "torchvision convnext": 2, "torchvision swin": 2}
"""How much larger the pictures are, where it is not 4."""


@pytest.mark.parametrize("kind", STEMS)
def test_a_stem_reads_the_grid_of_larger_pictures(kind: str) -> None:
    torch.manual_seed(0)
    network = STEMS[kind]()
    frequency = from_rgb(network, 24)
    assert isinstance(frequency, FrequencyNetwork)
    before, after = network.state_dict(), frequency.network.state_dict()
    changed = [
        name
        for name, value in before.items()
        if after[name].shape != value.shape or not torch.equal(after[name], value)
    ]
    assert after.keys() == before.keys()
    assert len(changed) == 1 and frequency.recipe.changes[0].startswith(
        changed[0].removesuffix("weight").rstrip(".") + ": "
    )
    weight = after[changed[0]]
    assert weight.shape == (before[changed[0]].shape[0], 24, 1, 1)
    # The map behind the first convolution is as large as that of the RGB network.
    height, width = side(frequency.network)
    factor = TIMES.get(kind, 4)
    maps = [
        _first_map(network, torch.zeros(1, 3, height // factor, width // factor)),
        _first_map(frequency.network, torch.zeros(1, 24, height // 8, width // 8)),
    ]
    if kind != "torchvision squeezenet":  # which pads nothing, and loses a place
        assert maps[0] == maps[1]
    assert frequency(torch.zeros(1, 3, height, width, dtype=torch.uint8)).shape == (1, CLASSES)


def _first_map(network: nn.Module, pixels: Tensor) -> torch.Size:
    seen = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels == pixels.shape[1]:
            hook = layer.register_forward_hook(lambda *given: seen.append(given[-1].shape))
            break
    with torch.no_grad():
        network(pixels)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("kind", ["efficientnet", "swin", "xcit", "torchvision densenet"])
def test_a_step_of_training(kind: str) -> None:
    torch.manual_seed(0)
    frequency = from_rgb(STEMS[kind]().train(), 24, gate=True)
    assert frequency.training and frequency.network.training
    images = torch.randint(0, 256, (2, 3, *side(frequency.network)), dtype=torch.uint8)
    scores, gate = frequency(images)
    assert scores.shape == (2, CLASSES) and gate.shape == (2, 24)
    nn.functional.cross_entropy(scores, torch.tensor([0, 1])).backward()
    conv = next(layer for layer in frequency.modules() if isinstance(layer, GridConv2d))
    assert conv.weight.grad is not None and conv.weight.grad.abs().sum() > 0


def test_the_weights_of_a_stem_are_drawn_with_the_variance_of_its_outputs() -> None:
    torch.manual_seed(0)
    network = made("test_efficientnet")
    conv = from_rgb(network, 192, init="kaiming").network.get_submodule("conv_stem")
    assert conv.weight.std().item() == pytest.approx((2 / conv.out_channels) ** 0.5, rel=0.05)


def test_the_size_checks_of_a_stem() -> None:
    embed = from_rgb(STEMS["swin"](), 24).network.patch_embed
    assert (embed.patch_size, embed.img_size, embed.grid_size) == ((1, 1), (8, 8), (8, 8))


def test_a_network_of_convolutions_in_front_of_a_transformer() -> None:
    network = made("vit_base_resnet26d_224", img_size=64, embed_dim=48, depth=1, num_heads=2)
    frequency = from_rgb(network, 24)
    embed = frequency.network.patch_embed
    assert embed.img_size == (32, 32)
    assert embed.patch_size == network.patch_embed.patch_size
    assert embed.feat_ratio() == network.patch_embed.feat_ratio() // 2
    assert frequency(torch.zeros(1, 3, 256, 256)).shape == (1, CLASSES)


def test_an_input_transform_for_red_green_and_blue_is_switched_off() -> None:
    network = torchvision.models.googlenet(
        num_classes=CLASSES, init_weights=False, aux_logits=False, transform_input=True
    ).eval()
    frequency = from_rgb(network, 3)
    assert frequency.network.transform_input is False and network.transform_input is True
    assert any("transform_input" in change for change in frequency.recipe.changes)
    coefficients = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        got = frequency.network(coefficients)
        network.transform_input = False
        network.conv1.conv = frequency.network.conv1.conv
        assert torch.equal(got, network(coefficients))


def test_a_layer_that_timm_names_but_a_variant_lacks() -> None:
    network = made("test_efficientnet")
    network.pretrained_cfg["first_conv"] = "stem.conv"
    assert from_rgb(network, 24).recipe.changes[0].startswith("conv_stem: ")


# --- the pictures' size ---


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (lambda: made("test_vit", img_size=(48, 80)), (48, 80)),
        (lambda: made("test_vit"), (160, 160)),
        (lambda: made("test_efficientnet"), (640, 640)),
        (lambda: made("test_maxvit", img_size=64), (256, 256)),
        (lambda: made("test_convnext"), (320, 320)),
        (torchvision_vit, (64, 64)),
        (lambda: torchvision.models.squeezenet1_1(), (896, 896)),
    ],
)
def test_the_size_of_pictures_before_and_after(
    network: Callable[[], nn.Module], size: tuple[int, int]
) -> None:
    rgb = network()
    assert side(rgb) == size
    assert side(from_rgb(rgb, 24).network) == size


# --- freeze ---


@pytest.mark.parametrize("kind", ["patch 16", "efficientnet", "torchvision"])
def test_what_is_kept_gives_what_closed_channels_gave(kind: str) -> None:
    network = {**STEMS, **EMBEDDINGS}[kind]()
    frequency = from_rgb(network, 24).eval()
    whole = frequency.network
    positions = [3, 0, 17, 8]
    coefficients = torch.randn(2, 24, *(length // 8 for length in side(whole)))
    closed = torch.zeros_like(coefficients)
    closed[:, positions] = coefficients[:, positions]
    with torch.no_grad():
        want = whole(closed)
        assert keep(whole, positions) == positions
        close(whole(coefficients[:, positions]), want)
    conv = next(layer for layer in whole.modules() if isinstance(layer, GridConv2d))
    assert conv.in_channels == 4 and side(whole) == side(network)
    assert keep(whole, [2]) == [2]  # and once more


# --- what holds for all ---


def test_a_transformer_compiles() -> None:
    frequency = from_rgb(EMBEDDINGS["patch 16"](), 24, gate=True)
    pictures = photographs(frequency.network)
    compiled = torch.compile(frequency, fullgraph=True, backend="eager")
    with torch.no_grad():
        for got, want in zip(compiled(pictures), frequency(pictures), strict=True):
            torch.testing.assert_close(got, want)


class Keeper(nn.Module):
    """Keeps what it computed of its weights, as some transformers do in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, CLASSES, 3, 2, 1)
        self.norm = nn.BatchNorm2d(CLASSES)
        self.scale = nn.Parameter(torch.ones(CLASSES, 1, 1))
        self.kept: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = 2 * self.scale
        return (self.norm(self.first(images)) * self.kept).mean((2, 3))


@pytest.mark.parametrize("training", [True, False])
def test_the_trial_leaves_no_trace(training: bool) -> None:
    network = Keeper().train(training)
    network.norm.eval()
    refit(network, make_recipe("general", 24))
    assert network.kept is None  # of a trial on the network itself, a tensor without data
    assert network.training is training and network.norm.training is False
    assert network.norm.num_batches_tracked == 0
    scores = network(torch.zeros(1, 24, 8, 8))
    assert type(scores) is Tensor and scores.isfinite().all()


@pytest.mark.parametrize("kind", ["patch 16", "efficientnet"])
def test_a_network_without_data(kind: str) -> None:
    """As it is made before weights are loaded."""
    whole = {**STEMS, **EMBEDDINGS}[kind]()
    want = from_rgb(whole, 24)
    empty = copy.deepcopy(whole).to("meta")
    refit(empty, make_recipe("general", 24))
    assert {name: value.shape for name, value in empty.state_dict().items()} == {
        name: value.shape for name, value in want.network.state_dict().items()
    }
    empty.to_empty(device="cpu").load_state_dict(want.network.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_keep_their_dtype(dtype: torch.dtype) -> None:
    for kind in ("patch 16", "efficientnet"):
        network = {**STEMS, **EMBEDDINGS}[kind]().to(dtype)
        refitted = from_rgb(network, 24).network
        assert {value.dtype for value in refitted.parameters()} == {dtype}


# --- refusals ---


class Twice(nn.Module):
    """Looks at the picture behind its first layer once more."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.first(images).mean() + (images * self.scale).mean()


class Masks(nn.Module):
    """Gives what torchvision's segmenters give."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.first(images)
        return {"out": features, "aux": features}


def first(*arguments: Any, **keywords: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(*arguments, **keywords), nn.Flatten())


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "stride 1": (
        lambda: torchvision.models.vgg11(init_weights=False),
        r"got VGG of torchvision\.models\.vgg: its first layer features\.0 is 3 x 3 of stride "
        r"1 x 1, padding 1 x 1$",
    ),
    "patch 14": (
        lambda: made("vit_small_patch14_dinov2", img_size=28, **SMALL),
        r"got VisionTransformer of timm\.models\.vision_transformer: its first layer "
        r"patch_embed\.proj is 14 x 14 of stride 14 x 14$",
    ),
    "padded patches": (lambda: first(3, 4, 16, 16, padding=8), "16 x 16, padding 8 x 8$"),
    "dilated patches": (lambda: first(3, 4, 8, 8, dilation=2), "8 x 8, dilation 2 x 2$"),
    "uneven stride": (lambda: first(3, 4, 3, (2, 4)), "3 x 3 of stride 2 x 4$"),
    "two stems": (
        lambda: made("crossvit_tiny_240", depth=((1, 1, 0),)),
        r"got CrossVit of timm\.models\.crossvit: its pictures are read by patch_embed\.0\.proj "
        r"and by patch_embed\.1\.proj$",
    ),
    "standardised weights": (
        lambda: made("test_nfnet"),
        r"got NormFreeNet of timm\.models\.nfnet: its first layer stem\.conv1 is a "
        r"ScaledStdConv2d",
    ),
    "a linear layer": (
        lambda: made("naflexvit_base_patch16_gap", embed_dim=48, depth=1, num_heads=2),
        r"got NaFlexVit of timm\.models\.naflexvit: its first layer embeds\.proj is a Linear$",
    ),
    "its own frequencies": (
        lambda: made("csatv2"),
        r"got CSATv2 of timm\.models\.csatv2: it has no Conv2d of 3 channels$",
    ),
    "grey pictures": (
        lambda: made("test_efficientnet", in_chans=1),
        "its first layer conv_stem reads 1 channels, not 3$",
    ),
    "groups": (lambda: first(3, 6, 3, 2, groups=3), "its first layer 0 has 3 groups$"),
    "films": (
        lambda: nn.Sequential(nn.Conv3d(3, 4, 3, 2)),
        r"got Sequential of torch\.nn\.modules\.container: it has no Conv2d of 3 channels$",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_no_rule(kind: str) -> None:
    make, words = REFUSED[kind]
    network = make()
    assert not matches(network)
    assert reason(network).startswith(": ")
    with pytest.raises(ValueError, match=words):
        from_rgb(network, 24)


def test_a_network_that_has_a_rule_has_no_reason() -> None:
    network = EMBEDDINGS["patch 16"]()
    assert matches(network) and reason(network) == ""


def test_a_network_that_fails_on_the_grid_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"no rule for Twice of .*test_models_general: on a grid"):
        from_rgb(Twice(), 24)
    assert capfd.readouterr() == ("", "")


def test_a_network_whose_output_belongs_to_the_pixels_is_named() -> None:
    with pytest.raises(ValueError, match=r"no rule for Masks of .*: .*output of 'out', 'aux'$"):
        from_rgb(Masks(), 24)


def test_inits_that_do_not_fit() -> None:
    network = made("test_efficientnet")
    words = r'init must be "kaiming" for EfficientNet .* conv_stem .*got "project"'
    with pytest.raises(ValueError, match=words):
        from_rgb(network, 24, init="project")
    with pytest.raises(ValueError, match='init must be "kaiming", or "project" for'):
        from_rgb(network, 24, init="slice")


def test_a_network_that_gives_maps_is_named() -> None:
    network = timm.create_model("test_resnet", features_only=True)
    with pytest.raises(ValueError, match="must classify, got an output of 5 maps"):
        from_rgb(network, 24)
