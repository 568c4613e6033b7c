"""save and load: what comes back is what was saved; files that are damaged, foreign or hostile."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import subprocess
import sys
import types
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import generator
from torch import Tensor, nn

import freqops
from freqops import ChannelSelection, ChannelStatistics
from freqops.models import about, freeze, from_rgb, load, save
from freqops.models._base import make, outline
from freqops.models._recipe import Base, Recipe
from freqops.models._summary import frame_of
from freqops.models._twin import Difference, assign, decoded, differences, encoded
from freqops.nn import ChannelGate, FrequencyTransform

torchvision = pytest.importorskip("torchvision")
safetensors = pytest.importorskip("safetensors")

CLASSES = 5
# Y, Cb and Cr in no order.
SHUFFLED = ChannelSelection([130, 0, 64, 9, 1, 128, 8, 65, 16, 2, 17, 66])
KEPT = ChannelSelection([65, 2, 130, 0])
# Of 192 in 32 groups of 6: groups with one, two and three of these, and many with none.
SCATTERED = ChannelSelection([0, 1, 2, 64, 70, 71, 128, 191])
DETECTOR = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 10}


@pytest.fixture(autouse=True)
def _without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download")

    for place in (torch.hub, urllib.request):
        for name in ("load_state_dict_from_url", "download_url_to_file", "urlopen"):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, refuse)


def pictures(side: int = 64) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator())


def zoo(name: str = "resnet18", **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, **{"num_classes": CLASSES, **arguments})


def timm_network(name: str, **arguments: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    return timm.create_model(name, **{"num_classes": CLASSES, **arguments})


def stirred(network: nn.Module) -> nn.Module:
    """No statistic and no weight is that of a new network."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and not name.endswith(
                ("transform.mean", "transform.std")
            ):
                noise = torch.rand(tensor.shape, generator=generator()) - 0.5
                tensor += (0.02 * noise).to(tensor)
    return network


def detector(norm: type[nn.Module] | None = None, **arguments: Any) -> nn.Module:
    """On ResNet-18, which has no constructor."""
    detection = torchvision.models.detection
    torch.manual_seed(0)
    norms = {} if norm is None else {"norm_layer": norm}  # torchvision's default is frozen
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, **norms
    )
    network = detection.FasterRCNN(backbone, 3, **{**DETECTOR, **arguments})
    for module in network.modules():
        if type(module).__name__ == "FrozenBatchNorm2d":
            module.eps = 0.0  # as torchvision sets it with its weights
    return network


def tensors_of(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for key in sorted(output):
            yield from tensors_of(output[key])
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from tensors_of(item)


def check_equal(network: nn.Module, loaded: nn.Module, images: object) -> None:
    """The same network: outputs, state, settings, recipe."""
    assert not any(module.training for module in loaded.modules())
    state, found = network.state_dict(), loaded.state_dict()
    assert list(found) == list(state)
    for name, want in state.items():
        got = found[name]
        assert got.dtype == want.dtype and torch.equal(got, want), name
        if want.dim() == 4 and want.is_contiguous(memory_format=torch.channels_last):
            assert got.stride() == want.stride(), name
    assert str(loaded) == str(network)
    recipes = [frame_of(each).recipe for each in (network, loaded)]  # type: ignore[union-attr]
    want, got = (dataclasses.replace(recipe, base=None) for recipe in recipes)
    assert got == want
    with torch.no_grad():
        outputs = [list(tensors_of(each.eval()(images))) for each in (network, loaded)]
    assert len(outputs[0]) == len(outputs[1]) > 0
    for left, right in zip(*outputs, strict=True):
        assert left.dtype == right.dtype and torch.equal(left, right)
        assert left.isfinite().all()


def round_trip(network: nn.Module, path: Path, images: object = None) -> nn.Module:
    """What comes back, after a check that it is the same."""
    stirred(network).train()
    modes = [module.training for module in network.modules()]
    before = torch.get_rng_state()
    save(network, path)
    loaded = load(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert modes == [module.training for module in network.modules()]
    check_equal(network, loaded, pictures() if images is None else images)
    return loaded


def described(path: Path) -> dict[str, Any]:
    """The JSON in the metadata of a file."""
    with safetensors.safe_open(path, "pt") as file:
        content: dict[str, Any] = json.loads(file.metadata()["network"])
    return content


def rewritten(path: Path, change: Callable[[dict[str, str], dict[str, Tensor]], None]) -> Path:
    """A copy with other metadata or tensors."""
    from safetensors.torch import load_file, save_file

    with safetensors.safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    change(metadata, tensors)
    target = path.with_name("changed.safetensors")
    save_file(tensors, target, metadata)
    return target


def with_content(path: Path, **values: Any) -> Path:
    """A copy whose JSON has other values."""

    def change(metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
        metadata["network"] = json.dumps(json.loads(metadata["network"]) | values)

    return rewritten(path, change)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated MobileNetV2 with few classes: 9 MB."""
    path = tmp_path_factory.mktemp("saved") / "network.safetensors"
    save(from_rgb(zoo("mobilenet_v2"), SHUFFLED, gate=True), path)
    return path


# What comes back


def statistics() -> ChannelStatistics:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=generator())
    return ChannelStatistics.from_images(images, chroma="4:2:0", rounding="jpeg")


def forced() -> nn.Module:
    network = from_rgb(zoo(), SHUFFLED, gate=True)
    network.gate.forced, network.gate.tau = KEPT, 0.25
    return network


def frozen(rgb: nn.Module, channels: ChannelSelection | int, kept: ChannelSelection) -> nn.Module:
    network = from_rgb(rgb, channels, gate=True)
    return freeze(network, selection=kept, say=None)


def in_float16() -> nn.Module:
    network = from_rgb(zoo(), SHUFFLED, gate=True).half()
    network.gate.forced = KEPT
    network.transform.dtype = torch.float16
    return network


def mixed() -> nn.Module:
    """Norms stay in float32, as some train."""
    network = in_float16()
    network.network.layer4.float()
    network.network.layer4.register_forward_pre_hook(lambda module, args: (args[0].float(),))
    network.network.fc.float()
    return network


def spatial_in_bfloat16() -> nn.Module:
    network = from_rgb(zoo(), SHUFFLED, spatial=True).bfloat16()
    network.transform.dtype = torch.bfloat16
    return network


def in_channels_last() -> nn.Module:
    network = from_rgb(zoo(), SHUFFLED).to(memory_format=torch.channels_last)
    network.transform.memory_format = torch.channels_last
    return network


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: from_rgb(zoo(), SHUFFLED),
    "constructor": lambda: freqops.models.resnet18(SHUFFLED, num_classes=CLASSES),
    "without layer1.0.downsample": lambda: from_rgb(zoo(), 64),
    "statistics": lambda: from_rgb(
        zoo("mobilenet_v2"),
        SHUFFLED,
        statistics=statistics(),
        chroma="4:2:0",
        rounding="jpeg",
        init="kaiming",
    ),
    "stride 1": lambda: from_rgb(zoo(), SHUFFLED, layer2_stride=1),
    "se": lambda: from_rgb(zoo("mobilenet_v2"), SHUFFLED, gate="se"),
    "double": lambda: from_rgb(zoo("mobilenet_v2"), SHUFFLED, gate="double"),
    "forced": forced,
    "frozen": lambda: freeze(forced(), selection=KEPT, say=None),
    "spatial": lambda: from_rgb(zoo(), SHUFFLED, spatial=True, gate=True),
    "float16": in_float16,
    "bfloat16": spatial_in_bfloat16,
    "channels_last": in_channels_last,
    "dilated": lambda: from_rgb(
        zoo("resnet50", replace_stride_with_dilation=[False, True, True]), SHUFFLED
    ),
    "grouped": lambda: from_rgb(
        zoo("resnet50", groups=4, width_per_group=8), SHUFFLED, spatial=True
    ),
    "mobilenet": lambda: from_rgb(zoo("mobilenet_v2"), SHUFFLED),
    "mobilenet of another width": lambda: from_rgb(
        zoo("mobilenet_v2", width_mult=0.35, dropout=0.7), SHUFFLED
    ),
    "mobilenet, depthwise, frozen": lambda: frozen(zoo("mobilenet_v2"), SHUFFLED, KEPT),
    "mobilenet, grouped, frozen": lambda: frozen(zoo("mobilenet_v2"), 192, SCATTERED),
    "timm resnet": lambda: from_rgb(timm_network("test_resnet"), SHUFFLED, spatial=True),
    "timm mobilenet": lambda: frozen(timm_network("mobilenetv2_035"), 192, SCATTERED),
    "timm vit": lambda: from_rgb(timm_network("test_vit", img_size=64), SHUFFLED, gate=True),
    "timm vit, frozen": lambda: frozen(timm_network("test_vit", img_size=64), SHUFFLED, KEPT),
    "timm drop path": lambda: from_rgb(timm_network("test_resnet", drop_path_rate=0.1), SHUFFLED),
    "mnasnet": lambda: from_rgb(zoo("mnasnet0_5"), SHUFFLED),
    "squeezenet": lambda: from_rgb(zoo("squeezenet1_1"), SHUFFLED),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_comes_back(name: str, tmp_path: Path) -> None:
    side = 256 if name in ("mnasnet", "squeezenet") else 64
    round_trip(CLASSIFIERS[name](), tmp_path / "network.safetensors", pictures(side))


@pytest.mark.parametrize(
    ("norm", "gate"), [(nn.BatchNorm2d, False), (None, True)], ids=["plain", "frozen norm, gate"]
)
def test_a_detector_comes_back(norm: type[nn.Module] | None, gate: bool, tmp_path: Path) -> None:
    network = from_rgb(detector(norm), SHUFFLED, gate=gate)
    round_trip(network, tmp_path / "n", list(pictures().float() / 255))


def test_a_detector_of_a_constructor_comes_back(tmp_path: Path) -> None:
    """Its arguments decide what no attribute tells: weights of boxes, say."""
    network = freqops.models.maskrcnn_resnet50_fpn(
        SHUFFLED, num_classes=3, bbox_reg_weights=[5.0, 5.0, 2.0, 2.0], **DETECTOR
    )
    loaded = round_trip(network, tmp_path / "n", list(pictures()))
    assert loaded.roi_heads.box_coder.weights == [5.0, 5.0, 2.0, 2.0]
    assert type(loaded) is torchvision.models.detection.MaskRCNN


def test_retinanet_comes_back(tmp_path: Path) -> None:
    rgb = zoo("retinanet_resnet50_fpn", weights_backbone=None, num_classes=3, min_size=64)
    round_trip(from_rgb(rgb, SHUFFLED), tmp_path / "n", list(pictures()))


@pytest.mark.parametrize("gate", [False, True], ids=["plain", "frozen"])
def test_a_segmenter_comes_back(gate: bool, tmp_path: Path) -> None:
    rgb = zoo("fcn_resnet50", weights_backbone=None, aux_loss=True)
    network = frozen(rgb, SHUFFLED, KEPT) if gate else from_rgb(rgb, SHUFFLED)
    round_trip(network, tmp_path / "n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnext50_32x4d", {}),
        ("wide_resnet50_2", {}),
        ("efficientnet_b0", {}),
        ("regnet_x_400mf", {}),  # which cannot be made on the meta device
        ("convnext_tiny", {}),
        ("googlenet", {"init_weights": False}),
        ("densenet121", {}),
    ],
)
def test_other_networks_of_torchvision_come_back(
    name: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    round_trip(from_rgb(zoo(name, **arguments), SHUFFLED), tmp_path / "n", pictures(256))


def test_load_needs_nothing_but_the_path(tmp_path: Path) -> None:
    path, result = tmp_path / "network.safetensors", tmp_path / "result.pt"
    network = stirred(from_rgb(zoo("mobilenet_v2"), SHUFFLED, gate=True)).eval()
    save(network, path)
    code = (
        "import sys, torch, freqops; torch.set_num_threads(1);"
        "network = freqops.models.load(sys.argv[1]);"
        f"images = torch.randint(0, 256, {(2, 3, 64, 64)}, dtype=torch.uint8,"
        " generator=torch.Generator().manual_seed(0));"
        "torch.save([t.detach() for t in network(images)], sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, path, result], check=True)
    with torch.no_grad():
        want = network(pictures())
    for left, right in zip(torch.load(result, weights_only=True), want, strict=True):
        assert torch.equal(left, right)


def test_the_file_is_a_state_dict_that_says_what_it_is(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path = tmp_path / "network.safetensors"
    network = freqops.models.resnet18(SHUFFLED, num_classes=CLASSES)
    save(network, path)
    state = network.state_dict()
    tensors = load_file(path)
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert {key: metadata[key] for key in ("format", "version", "freqops")} == {
        "format": "freqops.network",
        "version": "1",
        "freqops": freqops.__version__,
    }
    content = described(path)
    assert content["channels"] == list(SHUFFLED)
    assert len(content["statistics"]["mean"]) == 192
    assert content["base"] == {
        "library": "torchvision",
        "name": "resnet18",
        "arguments": {"num_classes": CLASSES},
    }
    assert content["attributes"] == {}


def test_the_recipe_names_the_rgb_network_afterwards(tmp_path: Path) -> None:
    network = from_rgb(zoo(), SHUFFLED, statistics=statistics())
    assert network.recipe.base is None  # torchvision's networks do not know their names
    loaded = round_trip(network, tmp_path / "n")
    assert loaded.recipe.base == Base("torchvision", "resnet18", {"num_classes": CLASSES})
    assert loaded.recipe.statistics.merge(statistics()).count == 64  # with its sums


def test_timm_networks_say_their_name() -> None:
    network = from_rgb(timm_network("test_resnet.r160_in1k", drop_rate=0.1), SHUFFLED)
    arguments = {"num_classes": CLASSES, "drop_rate": 0.1}
    assert network.recipe.base == Base("timm", "test_resnet.r160_in1k", arguments)


@pytest.mark.parametrize("arguments", [True, False], ids=["", "a timm that keeps no arguments"])
def test_timm_networks_come_back_as_they_became(arguments: bool, tmp_path: Path) -> None:
    network = timm_network("test_vit")
    network.set_input_size((64, 48))
    network.reset_classifier(3)
    if not arguments:
        del network._model_args
    loaded = round_trip(from_rgb(network, SHUFFLED), tmp_path / "n", pictures()[..., :48])
    assert loaded.recipe.base.arguments == {"num_classes": 3, "img_size": [64, 48]}


def test_what_surgery_did_is_told_as_it_was(saved: Path) -> None:
    assert load(with_content(saved, changes=["conv1: gone"])).recipe.changes == ("conv1: gone",)


ABOUT = {
    "classes": ["Katze", "\u732b", "a 'quoted' one", ""],
    "crop": 448,
    "share": 0.1,
    "nested": {"none": None, "yes": True, "list": [[1, 2.5], {}]},
}


def test_what_a_file_is_about_comes_back(saved: Path, tmp_path: Path) -> None:
    network = load(saved)
    bare, told = tmp_path / "bare.safetensors", tmp_path / "told.safetensors"
    save(network, bare)
    with safetensors.safe_open(bare, "pt") as file:
        assert set(file.metadata()) == {"format", "version", "freqops", "network"}
    assert about(bare) == {}
    save(network, told, about=ABOUT)
    assert about(str(told)) == ABOUT and isinstance(about(told)["nested"], dict)
    check_equal(network, load(told), pictures())
    save(network, told, about=types.MappingProxyType({"pair": (1, 2)}))
    assert about(told) == {"pair": [1, 2]}
    save(network, told, about={})
    assert about(told) == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1], "about must be a mapping or None, got a list"),
        ({1: "cat"}, "about must have strings for keys, got 1"),
        ({"a": {"b": {None: 1}}}, r"about\['a'\]\['b'\] must have strings for keys, got None"),
        ({"a": [0, {1}]}, r"about\['a'\]\[1\] must be None, a boolean, .*, got a set"),
        (
            {"a": Path("b")},
            r"about\['a'\] must be .* a string, a list or a dict",
        ),
        ({"a": torch.zeros(1)}, r"about\['a'\] must be .*, got a Tensor"),
        ({"a": [float("nan")]}, r"about\['a'\]\[0\] must be finite, .*, got nan"),
    ],
)
def test_save_refuses_what_json_does_not_hold(
    value: Any, words: str, saved: Path, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match=f"^save: {words}"):
        save(load(saved), tmp_path / "n", about=value)
    assert list(tmp_path.iterdir()) == []


def test_a_network_may_be_trained_after_load(saved: Path) -> None:
    network = load(saved).train()
    assert all(parameter.requires_grad for parameter in network.parameters())
    scores, gate = network(pictures())
    (scores.sum() + gate.sum()).backward()
    assert network.gate.logits.bias.grad.abs().sum() > 0


# What was changed after the surgery


def test_another_head_comes_back(tmp_path: Path) -> None:
    network = freqops.models.resnet18(SHUFFLED)
    network.network.fc = nn.Linear(512, 3)
    loaded = round_trip(network, tmp_path / "n")
    assert loaded.network.fc.out_features == 3


def test_another_head_of_timm_comes_back(tmp_path: Path) -> None:
    network = from_rgb(timm_network("test_vit", img_size=64), SHUFFLED)
    network.network.head = nn.Linear(64, 3)
    loaded = round_trip(network, tmp_path / "n")
    assert (loaded.network.head.out_features, loaded.network.num_classes) == (3, CLASSES)


def test_another_predictor_comes_back(tmp_path: Path) -> None:
    network = from_rgb(detector(), SHUFFLED)
    predictor = torchvision.models.detection.faster_rcnn.FastRCNNPredictor
    network.roi_heads.box_predictor = predictor(1024, 7)
    network.roi_heads.score_thresh = 0.01
    loaded = round_trip(network, tmp_path / "n", list(pictures()))
    assert loaded.roi_heads.score_thresh == 0.01


def test_attributes_come_back(tmp_path: Path) -> None:
    network = from_rgb(zoo("mobilenet_v2"), SHUFFLED)
    network.network.classifier[0].p = 0.625
    network.network.features[1].conv[0][1].eps = 0.5
    network.network.features[2].conv[1][0].stride = (1, 1)
    network.transform.chroma = "dctnet"
    loaded = round_trip(network, tmp_path / "n")
    assert loaded.network.classifier[0].p == 0.625
    assert loaded.network.features[2].conv[1][0].stride == (1, 1)
    assert described(tmp_path / "n")["attributes"]["transform"] == {"chroma": "dctnet"}


def test_another_gate_comes_back_and_none(tmp_path: Path) -> None:
    network = from_rgb(zoo("mobilenet_v2"), SHUFFLED, gate=True)
    network.gate = ChannelGate(SHUFFLED, "se")
    save(network, tmp_path / "n")
    assert load(tmp_path / "n").gate.kind == "se"
    network.gate = None
    save(network, tmp_path / "n")
    loaded = load(tmp_path / "n")
    assert loaded.gate is None and isinstance(loaded(pictures()), Tensor)


def test_normalisation_of_the_halved_picture_comes_back(tmp_path: Path) -> None:
    network = from_rgb(timm_network("test_resnet"), SHUFFLED, spatial=True)
    network.halved.mean.fill_(0.25)
    network.halved.std.fill_(0.3)
    round_trip(network, tmp_path / "n")


def test_tied_and_strided_weights_come_back(tmp_path: Path) -> None:
    network = stirred(from_rgb(zoo("mobilenet_v2"), SHUFFLED)).eval()
    blocks = network.network.features
    blocks[9].conv[2].weight = blocks[8].conv[2].weight
    blocks[9].conv[0][1].weight = nn.Parameter(torch.ones(2, 384)[1])  # part of a tensor
    save(network, tmp_path / "n")
    check_equal(network, load(tmp_path / "n"), pictures())
    weight = network.network.classifier[1].weight
    weight.data = weight.data.t().contiguous().t()
    save(network, tmp_path / "n")
    loaded = load(tmp_path / "n")
    assert torch.equal(loaded.network.classifier[1].weight, weight)
    with torch.no_grad():  # a product that is added up in another order
        torch.testing.assert_close(loaded(pictures()), network(pictures()))


def test_mixed_dtypes_come_back(tmp_path: Path) -> None:
    network = stirred(mixed())
    save(network, tmp_path / "n")
    loaded = load(tmp_path / "n")
    assert loaded.network.layer3[0].conv1.weight.dtype == torch.float16
    assert loaded.network.layer4[0].conv1.weight.dtype == torch.float32
    want, got = network.state_dict(), loaded.state_dict()
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.gpu
def test_a_network_on_a_gpu_comes_back_on_the_cpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    network = stirred(from_rgb(zoo("mobilenet_v2"), SHUFFLED, gate=True)).cuda()
    network.gate.forced = KEPT
    save(network, tmp_path / "n")
    check_equal(network.cpu(), load(tmp_path / "n"), pictures())


# Networks without a name


def test_a_network_without_a_name_needs_the_rgb_network(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"

    def rgb() -> nn.Module:
        network = zoo("mobilenet_v2")
        network.classifier = nn.Sequential(nn.Linear(1280, 8), nn.Tanh(), nn.Linear(8, 3))
        return network

    given = rgb()
    network = stirred(from_rgb(given, SHUFFLED, gate=True))
    with pytest.warns(UserWarning, match="will need load") as caught:
        save(network, path)
    assert len(caught) == 1 and caught[0].filename == __file__
    words = str(caught[0].message)
    assert "load(path, network=...)" in words and repr(str(path)) in words
    assert "network.classifier.0 is a torch.nn.modules.linear.Linear instead of" in words
    with pytest.raises(ValueError, match=r"no name for its RGB network: load\(path, network="):
        load(path)
    other, before = rgb(), {name: t.clone() for name, t in given.state_dict().items()}
    check_equal(network, load(path, other), pictures())
    check_equal(network, load(path, network=given), pictures())
    assert all(torch.equal(t, before[name]) for name, t in given.state_dict().items())
    assert frame_of(given) is None  # it was copied
    with pytest.raises(ValueError, match=r"another architecture: it lacks network\.classifier\.1"):
        load(path, zoo("mobilenet_v2"))
    with pytest.raises(ValueError, match="RGB network is a mobilenet_v2, got a ResNet, a resnet"):
        load(path, zoo())


def test_the_rgb_network_may_be_given_where_it_is_not_needed(saved: Path) -> None:
    check_equal(load(saved), load(saved, zoo("mobilenet_v2")), pictures())


def test_a_class_of_ones_own_has_no_name(tmp_path: Path) -> None:
    class Own(nn.Sequential):
        pass

    network = from_rgb(Own(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 4, 3)), SHUFFLED)
    with pytest.warns(UserWarning, match="the network itself is of a kind that torchvision and"):
        save(network, tmp_path / "n")
    loaded = load(tmp_path / "n", Own(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    check_equal(network, loaded, pictures(128))


def test_weights_of_boxes_are_no_attribute(tmp_path: Path) -> None:
    network = from_rgb(detector(bbox_reg_weights=(1.0, 1.0, 2.0, 2.0)), SHUFFLED)
    with pytest.warns(UserWarning, match="roi_heads has another box_coder"):
        save(network, tmp_path / "n")
    rgb = detector(bbox_reg_weights=(1.0, 1.0, 2.0, 2.0))
    check_equal(network, load(tmp_path / "n", rgb), list(pictures()))


# What save refuses


def test_save_refuses_what_freqops_did_not_make(tmp_path: Path) -> None:
    network = from_rgb(zoo("mobilenet_v2"), SHUFFLED)
    for wrong, error, words in (
        (zoo("mobilenet_v2"), ValueError, "got a MobileNetV2 of torchvision.models.mobilenetv2"),
        (nn.DataParallel(network), ValueError, "got a DataParallel, which is around one"),
        (network.network, ValueError, "one that freqops.models made, got a MobileNetV2"),
        ({"a": 1}, TypeError, "save: network must be a torch.nn.Module, got a dict"),
        (from_rgb(detector(), SHUFFLED).backbone, ValueError, "or part of one"),
    ):
        with pytest.raises(error, match=words):
            save(wrong, tmp_path / "n")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must hold values, got .* on the meta device"):
        save(network.to("meta"), tmp_path / "n")
    assert list(tmp_path.iterdir()) == []


def test_save_replaces_a_file_as_a_whole(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load(saved)
    path = tmp_path / "network.safetensors"
    path.write_bytes(b"old")
    import safetensors.torch

    def full(tensors: object, target: Path, metadata: object) -> None:
        target.write_bytes(b"half")
        raise safetensors.SafetensorError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(OSError, match=r"network\.safetensors' could not be written: no space"):
            save(network, path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
    save(network, str(path))
    check_equal(network, load(str(path)), pictures())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with pytest.raises(FileNotFoundError):
        save(network, tmp_path / "nowhere" / "network.safetensors")


# What load refuses


def test_load_says_when_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(TypeError):
        load(0)  # type: ignore[arg-type]  # a descriptor, to open()
    with pytest.raises(TypeError, match=r"network must be a torch\.nn\.Module or None, got"):
        load(tmp_path, network="resnet18")  # type: ignore[arg-type]


def refused(path: Path, words: str) -> None:
    """One sentence that names the file."""
    refused_by(load, path, words)


def refused_by(read: Callable[[Path], object], path: Path, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith("path must name a network that freqops.models.save wrote, got ")
    assert repr(str(path)) in text and "\n" not in text


@pytest.mark.parametrize("left", [0, 5, 9, 1000, -1000, -1])
def test_load_refuses_a_truncated_file(left: int, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    path.write_bytes(saved.read_bytes()[:left])
    refused(path, "it is truncated or no safetensors file: ")


class Trap:
    """What unpickling it would run."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (Trap.path,)

    path = ""


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickle"])
def test_load_never_unpickles(zipped: bool, tmp_path: Path) -> None:
    Trap.path = str(tmp_path / "sprung")
    path = tmp_path / "network.pth"
    torch.save({"state_dict": Trap()}, path, _use_new_zipfile_serialization=zipped)
    refused(path, "it holds pickled Python code, which is never run; freqops.models.load_released")
    assert not Path(Trap.path).exists()
    torch.load(path, weights_only=False)
    assert Path(Trap.path).exists()  # the trap works


def test_load_reads_a_header_that_begins_like_a_pickle(tmp_path: Path) -> None:
    """A length of 0x..80 is a byte that begins pickles too."""
    header = json.dumps({"__metadata__": {"format": "x"}}).encode().ljust(0x280)
    path = tmp_path / "network.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert path.read_bytes()[:1] == b"\x80"
    refused(path, "its \"format\" is 'x', not 'freqops.network'")


def test_load_refuses_other_files(saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "network.safetensors"
    path.write_bytes(b"GIF89a" + bytes(100))
    refused(path, "truncated or no safetensors file")
    save_file({"weight": torch.zeros(2)}, path)
    refused(path, "its \"format\" is None, not 'freqops.network'")
    coefficients = freqops.files.Coefficients(
        torch.zeros(2, 3, 3), (24, 24), freqops.files.Settings(ChannelSelection([0, 1]))
    )
    freqops.files.write(coefficients, path)
    refused(path, "its \"format\" is 'freqops.coefficients', not 'freqops.network'")

    def later(metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
        metadata["version"], metadata["freqops"] = "2", "9.9"

    refused(
        rewritten(saved, later),
        r"freqops 9\.9 wrote it in version '2' of the format, known is 1: a later freqops",
    )


def test_about_refuses_what_load_refuses(saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "network.safetensors"
    for missing, error in ((tmp_path / "none", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error):
            about(missing)
    path.write_bytes(saved.read_bytes()[:-1])
    refused_by(about, path, "it is truncated or no safetensors file: ")
    torch.save({}, path)
    refused_by(about, path, "it holds pickled Python code, which is never run")
    save_file({"weight": torch.zeros(2)}, path)
    refused_by(about, path, "its \"format\" is None, not 'freqops.network'")

    for key, value, words in (
        ("version", "2", "known is 1: a later freqops"),
        ("about", "[1]", "its metadata is damaged: no object but a list"),
        ("about", "{", "its metadata is damaged: "),
    ):

        def change(metadata: dict[str, str], _: object, key: str = key, to: str = value) -> None:
            metadata[key] = to

        refused_by(about, rewritten(saved, change), words)


def test_load_refuses_damaged_metadata(saved: Path) -> None:
    def cut(metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
        metadata["network"] = metadata["network"][:-10]

    def no_object(metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
        metadata["network"] = "[]"

    def missing(metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
        del metadata["network"]

    for change in (cut, no_object, missing):
        refused(rewritten(saved, change), "its metadata is damaged: ")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("family", "resnet", "its RGB network is a resnet, got a MobileNetV2, a mobilenet_v2"),
        ("family", None, 'damaged: "family" is None, no str'),
        ("channels", [0, 192], r"must lie in \[0, 192\)"),
        ("channels", "24", "damaged: \"channels\" is '24', no list"),
        ("channels", [0, 1, 2], "another architecture"),
        ("channels", [*SHUFFLED][::-1], "must hold the channels of this module"),
        ("statistics", {}, '"mean" is no list of numbers'),
        ("statistics", None, 'damaged: "statistics" is None, no dict'),
        ("gate", None, "another architecture: it also holds gate.logits.bias and"),
        ("gate", "other", "gate must be one of"),
        ("spatial", "yes", "damaged: \"spatial\" is 'yes', no bool"),
        ("spatial", True, "spatial must be False for mobilenet_v2"),
        ("chroma", "4:1:1", "chroma must be one of"),
        ("rounding", 3, 'damaged: "rounding" is 3, no str'),
        ("layer2_stride", 3, "layer2_stride must be 1 or 2, got 3"),
        ("kept", [], "at least one channel"),
        ("kept", [5], "must hold channels of the gate"),
        ("dtype", "load", "damaged: \"dtype\" is 'load'"),
        ("tau", -1.0, "tau must be greater than 0"),
        ("tau", None, 'damaged: "tau" is None, no float'),
        ("forced", [5], "forced must hold channels of the gate"),
        ("attributes", [], 'damaged: "attributes" is'),
        ("changes", 1, 'damaged: "changes" is 1, no list'),
        ("base", [], 'damaged: "base" is'),
    ],
)
def test_load_refuses_wrong_values(key: str, value: object, words: str, saved: Path) -> None:
    refused(with_content(saved, **{key: value}), words)


def test_load_refuses_tensors_of_another_architecture(saved: Path) -> None:
    weight = "network.classifier.1.weight"

    def lacks(metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
        del tensors[weight], tensors["network.classifier.1.bias"]

    def besides(metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
        tensors["network.more"] = torch.zeros(1)

    def shape(metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
        tensors[weight] = torch.zeros(6, 1280)

    def dtype(metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
        tensors[weight] = torch.zeros(CLASSES, 1280, dtype=torch.int32)

    for change, words in (
        (lacks, r"it lacks network\.classifier\.1\.bias and 1 more"),
        (besides, r"it also holds network\.more$"),
        (shape, r"weight is torch\.float32 \[6, 1280\] instead of torch\.float32 \[5, 1280\]"),
        (dtype, r"weight is torch\.int32"),
    ):
        refused(rewritten(saved, change), f"it holds another architecture: .*{words}")


# What a file could ask for


FORBIDDEN = [
    "weights",
    "weights_backbone",
    "pretrained",
    "pretrained_backbone",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
    "device",
]


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("argument", FORBIDDEN)
def test_make_takes_no_argument_about_weights(library: str, argument: str) -> None:
    with pytest.raises(ValueError, match=f"no arguments about weights, got \\['{argument}'\\]"):
        make(Base(library, "resnet18", {argument: "DEFAULT"}))


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (
            Base("os", "system", {"command": "true"}),
            "library must be torchvision or timm, got 'os'",
        ),
        (Base("torchvision", "get_model", {"name": "resnet18"}), "does not know the name"),
        (Base("torchvision", "resnet", {}), "does not know the name"),
        (Base("torchvision", "quantized_resnet18", {}), "does not know the name"),
        (Base("torchvision", "resnet19", {}), "'resnet19': .*does not know the name"),
        (Base("torchvision", "resnet18", {"depth": 3}), r"'resnet18' with \{'depth': 3\}: .*depth"),
        (Base("torchvision", "resnet18", {"norm_layer": "FrozenBatchNorm2d"}), "for detectors"),
        (
            Base("torchvision", "fasterrcnn_resnet50_fpn", {"backbone_name": "__builtins__"}),
            "backbone_name must name a ResNet, got '__builtins__'",
        ),
        (
            Base("torchvision", "fasterrcnn_resnet50_fpn", {"norm_layer": "Identity"}),
            "norm_layer must be 'FrozenBatchNorm2d', got 'Identity'",
        ),
        (Base("timm", "resnet19", {}), "this timm does not know the name"),
        (Base("timm", "hf-hub:timm/resnet18", {}), "this timm does not know the name"),
        (Base("timm", "local-dir:resnet18", {}), "this timm does not know the name"),
        (Base("timm", "resnet18.x:y", {}), "this timm does not know the name"),
        (Base("timm", "resnet18.nothing", {}), "timm makes no 'resnet18.nothing'"),
        (Base("timm", "test_resnet", {"depth": 3}), r"'test_resnet' with \{'depth': 3\}"),
    ],
    ids=lambda value: value.name if isinstance(value, Base) else "",
)
def test_make_calls_nothing_but_listed_constructors(base: Base, words: str) -> None:
    if base.library == "timm":
        pytest.importorskip("timm")
    with pytest.raises(ValueError, match=words):
        make(base)


def test_load_says_that_a_name_is_unknown(saved: Path) -> None:
    base = {"library": "torchvision", "name": "mobilenet_v9", "arguments": {}}
    refused(with_content(saved, base=base), "no 'mobilenet_v9': this torchvision does not know")
    base["arguments"] = {"weights": "DEFAULT"}
    refused(with_content(saved, base=base), "must have no arguments about weights")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("network", "forward", "x"),
        ("network", "_modules", {"dict": {}}),
        ("network", "training", True),
        ("", "recipe", None),
        ("transform", "channels", [0]),
        ("transform", "dtype", {"torch": "load"}),
        ("transform", "chroma", {"torch": "nn"}),
        ("network.none", "p", 0.5),
        ("network.classifier.0", "p", {"tuple": [{"torch": "hub"}]}),
    ],
)
def test_load_sets_plain_attributes_only(name: str, key: str, value: object, saved: Path) -> None:
    refused(with_content(saved, attributes={name: {key: value}}), f"there is no attribute {key} of")


def test_make_leaves_the_random_state_and_says_nothing() -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(Base("torchvision", "mobilenet_v2", {}))
        # torchvision warns of it; no layer is frozen
        make(Base("torchvision", "fcos_resnet50_fpn", {"trainable_backbone_layers": 3}))
        outline(Base("torchvision", "googlenet", {}))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["resnet18", "fcn_resnet50", "regnet_y_400mf"])
def test_an_outline_holds_no_values(name: str) -> None:
    network = outline(Base("torchvision", name, {}))
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert not differences(make(Base("torchvision", name, {})), network)


# Packages that are missing


def test_missing_packages_are_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load(saved)
    timm_file = with_content(
        saved, base={"library": "timm", "name": "mobilenetv2_100", "arguments": {}}
    )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "timm", None)
        with pytest.raises(ModuleNotFoundError, match=r"needs timm: pip install 'freqops\[models"):
            load(timm_file)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torchvision.models", None)
        with pytest.raises(ImportError, match=r"needs torchvision, .*pip install 'freqops\[models"):
            load(saved)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "safetensors", None)
        for call, words in (
            (lambda: load(saved), "freqops.models.load needs safetensors"),
            (lambda: save(network, saved), "freqops.models.save needs safetensors"),
            (lambda: about(saved), "freqops.models.about needs safetensors"),
        ):
            with pytest.raises(ModuleNotFoundError, match=words):
                call()


# Differences between networks


def pair(change: Callable[[nn.Module], object]) -> tuple[nn.Module, nn.Module]:
    networks = [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU()))
        for _ in range(2)
    ]
    change(networks[0])
    return networks[0], networks[1]


def replaced(name: str, layer: nn.Module) -> Callable[[nn.Module], object]:
    return lambda network: setattr(network, name, layer)


@pytest.mark.parametrize(
    ("change", "words", "alike"),
    [
        (replaced("1", nn.GroupNorm(1, 4)), "1 is a torch.nn.modules.normalization.GroupN", 2),
        (replaced("0", nn.Conv2d(3, 5, 3)), r"0 has another bias, \[5\] instead of \[4\]", 1),
        (replaced("0", nn.Conv2d(3, 4, 3, bias=False)), "0 has another bias, None instead of", 1),
        (replaced("3", nn.ReLU()), "3 is in another place, or new", 5),
        (lambda network: network.pop(2), "2 is missing", 2),
        (lambda network: network[2].pop(0), "2.0 is missing", 3),
        (lambda network: network[1].register_buffer("more", torch.ones(2)), "another more", 2),
        (lambda network: network[1].register_buffer("running_mean", None), "another running", 2),
    ],
)
def test_differences_of_layers(
    change: Callable[[nn.Module], object], words: str, alike: int
) -> None:
    with pytest.raises(Difference, match=words) as caught:
        differences(*pair(change))
    assert caught.value.alike == alike


def hold(network: nn.Module, other: nn.Module, value: object, others: object) -> None:
    network[1].held, other[1].held = value, others  # type: ignore[index]


class Settings:
    def __init__(self, number: float) -> None:
        self.number = number


@pytest.mark.parametrize(
    ("value", "other", "same"),
    [
        (Settings(1.0), Settings(1.0), True),
        (Settings(1.0), Settings(2.0), False),
        ([torch.ones(2)], [torch.ones(2)], True),
        ([torch.ones(2)], [torch.zeros(2)], False),
        (nn.functional.relu, nn.functional.relu, True),
        (nn.functional.relu, nn.functional.gelu, False),
        (nn.ReLU, nn.GELU, False),
        (ChannelSelection([0, 1]), ChannelSelection([1, 0]), False),
        ({"a": Settings(1.0)}, {"a": Settings(2.0)}, False),
    ],
)
def test_attributes_that_are_not_plain_must_be_the_same(
    value: object, other: object, same: bool
) -> None:
    networks = pair(lambda network: None)
    hold(*networks, value, other)
    if same:
        assert differences(*networks) == {}
    else:
        with pytest.raises(Difference, match="1 has another held"):
            differences(*networks)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 2, 0.1, "a", (1, (2, 3)), [1, [2]], torch.float16, torch.channels_last),
        *({"a": 1, "tuple": (1, 2)}, (torch.float16, "torch.float16"), {}),
    ],
)
def test_plain_attributes_are_carried_over(value: object) -> None:
    network, twin = pair(lambda network: None)
    hold(network, twin, value, "other")
    found = differences(network, twin)
    assert found == {"1": {"held": value}}
    read = decoded(json.loads(json.dumps(encoded(found["1"]["held"]))))
    assert read == value and type(read) is type(value)
    assign(twin, {"1": {"held": read}})
    assert twin[1].held == value  # type: ignore[index]
    assert differences(network, twin) == {}


def test_the_transform_is_compared_too() -> None:
    left, right = FrequencyTransform([0, 1]), FrequencyTransform([1, 0])
    with pytest.raises(Difference, match="the network itself has another channels"):
        differences(left, right)
    assert isinstance(from_rgb(zoo("mobilenet_v2"), 6).recipe, Recipe)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn"])
def test_detectors_that_have_run_know_their_names(name: str, tmp_path: Path) -> None:
    """Their pooling of regions keeps what it found of the first pictures."""
    settings = {"num_classes": 3, "min_size": 64, "max_size": 96}
    network = getattr(freqops.models, name)(24, **settings).eval()
    network([torch.zeros(3, 64, 64)])
    path = tmp_path / "network.safetensors"
    save(network, path)  # a warning is an error here
    assert type(load(path)) is type(network)


def test_what_no_file_could_bring_back_is_not_written(tmp_path: Path) -> None:
    network = freqops.models.resnet18(24, num_classes=3)
    network.transform = FrequencyTransform(24)  # without statistics
    path = tmp_path / "network.safetensors"
    with pytest.raises(ValueError, match="must have the layers that freqops gave it, but transf"):
        save(network, path)
    assert not path.exists()
