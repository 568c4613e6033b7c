"""from_rgb on torchvision's detectors and segmenters, and the FrequencyStem in their bodies."""

from __future__ import annotations

import copy
import math
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from support import generator
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from freqops import ChannelSelection, ChannelStatistics, reference
from freqops.models import _dense, _resnet, from_rgb
from freqops.models._recipe import recipe_of
from freqops.nn import FrequencyTransform, gate_penalty

torchvision = pytest.importorskip("torchvision")

from torchvision.models import detection, segmentation  # noqa: E402
from torchvision.models._utils import IntermediateLayerGetter  # noqa: E402
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone  # noqa: E402
from torchvision.ops.feature_pyramid_network import LastLevelP6P7  # noqa: E402

STATISTICS = ChannelStatistics(torch.linspace(-200, 100, 192), torch.linspace(400, 0.7, 192))
BARE = {"weights": None, "weights_backbone": None}
# Few regions: the heads take the time.
RCNN = {
    "num_classes": 3,
    "rpn_pre_nms_top_n_train": 64,
    "rpn_post_nms_top_n_train": 32,
    "rpn_post_nms_top_n_test": 16,
    "box_batch_size_per_image": 16,
    "box_detections_per_img": 4,
}
SMALL = {"min_size": 64, "max_size": 96}


def resnet18_fpn(**arguments: Any) -> nn.Module:
    settings = {"backbone_name": "resnet18", "weights": None, "trainable_layers": 5}
    return resnet_fpn_backbone(**{**settings, **arguments})


def one_stage(kind: Any) -> nn.Module:
    backbone = resnet18_fpn(returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    few = {"topk_candidates": 16, "detections_per_img": 4, "score_thresh": 0.0}
    return kind(backbone, 3, **SMALL, **few)


def keypoints() -> nn.Module:
    few = {**RCNN, "num_classes": 2, "num_keypoints": 5}
    return detection.KeypointRCNN(resnet18_fpn(), **few, **SMALL)


DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "faster": lambda: detection.FasterRCNN(resnet18_fpn(), **RCNN, **SMALL),
    "mask": lambda: detection.MaskRCNN(resnet18_fpn(), **RCNN, **SMALL),
    "keypoint": keypoints,
    "retinanet": lambda: one_stage(detection.RetinaNet),
    "fcos": lambda: one_stage(detection.FCOS),
    "faster-50": lambda: detection.fasterrcnn_resnet50_fpn_v2(**BARE, **RCNN, **SMALL),
}


def fcn18() -> nn.Module:
    body = IntermediateLayerGetter(torchvision.models.resnet18(), {"layer2": "out"})
    return segmentation.FCN(body, segmentation.fcn.FCNHead(128, 3))


SEGMENTERS: dict[str, Callable[[], nn.Module]] = {
    "fcn-18": fcn18,
    "fcn": lambda: segmentation.fcn_resnet50(**BARE, num_classes=3, aux_loss=False),
    "fcn-aux": lambda: segmentation.fcn_resnet50(**BARE, num_classes=3, aux_loss=True),
    "deeplab": lambda: segmentation.deeplabv3_resnet50(**BARE, num_classes=3, aux_loss=False),
    "deeplab-aux": lambda: segmentation.deeplabv3_resnet50(**BARE, num_classes=3, aux_loss=True),
}
MADE: dict[str, nn.Module] = {}


def rgb(name: str) -> nn.Module:
    """The RGB network, made once and never changed, with norms that are not those of a new one."""
    if name not in MADE:
        torch.manual_seed(0)
        network = {**DETECTORS, **SEGMENTERS}[name]()
        for module in network.modules():
            if isinstance(getattr(module, "running_var", None), Tensor):
                nn.init.normal_(module.running_mean, 0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 2)
        MADE[name] = network
    return MADE[name]


def made(name: str, *arguments: Any, **settings: Any) -> nn.Module:
    """The frequency network in evaluation."""
    torch.manual_seed(1)
    return from_rgb(rgb(name), *arguments, **settings).eval()


def stem_of(network: nn.Module) -> _dense.FrequencyStem:
    return _dense.body_of(network).get_submodule("frequency")


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """uint8 noise with some structure: a gate sees differences."""
    source = generator(seed)
    made = []
    for h, w in sizes:
        coarse = torch.rand(1, 3, h // 9 + 1, w // 9 + 1, generator=source)
        smooth = interpolate(coarse, (h, w), mode="bilinear")[0]
        made.append((230 * smooth + 25 * torch.rand(3, h, w, generator=source)).to(torch.uint8))
    return made


def targets_of(images: list[Tensor]) -> list[dict[str, Tensor]]:
    """Two boxes a picture, with masks."""
    targets = []
    for image in images:
        h, w = image.shape[-2:]
        boxes = [[0.1 * w, 0.1 * h, 0.5 * w, 0.6 * h], [0.3 * w, 0.4 * h, 0.9 * w, 0.95 * h]]
        masks = torch.zeros(2, h, w, dtype=torch.uint8)
        for mask, box in zip(masks, boxes, strict=True):
            left, top, right, bottom = map(int, box)
            mask[top:bottom, left:right] = 1
        labels = torch.tensor([1, 2])
        targets.append({"boxes": torch.tensor(boxes), "labels": labels, "masks": masks})
    return targets


@contextmanager
def seen_by(module: nn.Module) -> Iterator[list[Tensor]]:
    """What comes into a module."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    yield seen
    handle.remove()


def equal(left: list[dict[str, Tensor]], right: list[dict[str, Tensor]]) -> bool:
    return all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(left, right, strict=True)
    )


def plain(images: Tensor, selection: ChannelSelection, **settings: Any) -> Tensor:
    """The coefficients of float pictures by the formula, in float64."""
    enlarged = interpolate(images.double(), scale_factor=2, mode="bilinear", align_corners=False)
    mean, std = STATISTICS.select(selection)
    return reference.block_dct(
        enlarged, list(selection), mean=mean, std=std, dtype=torch.float64, **settings
    )


# Structure


@pytest.mark.parametrize(("channels", "gate"), [(24, False), (64, True), (192, True)])
@pytest.mark.parametrize("name", ["mask", "faster-50", "fcn-18", "deeplab-aux"])
def test_all_other_keys_and_weights_are_torchvisions(name: str, channels: int, gate: bool) -> None:
    before = rgb(name).state_dict()
    kept = {key: values.clone() for key, values in before.items()}
    network = from_rgb(rgb(name), channels, gate=gate)
    body = "backbone." if name in SEGMENTERS else "backbone.body."
    stem, first = {f"{body}conv1", f"{body}bn1"}, f"{body}layer1.0."
    want = {key for key in before if key.rpartition(".")[0] not in stem}
    assert len(want) < len(before)
    refitted = {f"{first}conv1.weight"}
    if f"{first}downsample.0.weight" in before:
        refitted.add(f"{first}downsample.0.weight")
    elif channels != 64:  # of a BasicBlock
        norm = [key for key in before if key.startswith(f"{first}bn2.")]
        refitted |= {key.replace("bn2", "downsample.1") for key in norm}
        refitted.add(f"{first}downsample.0.weight")
    new = {f"{body}frequency.transform.{n}" for n in ("mean", "std", "_extra_state")}
    parameters = ["squeeze.weight", "squeeze.bias", "norm.weight", "norm.bias", "logits.weight"]
    parameters += ["logits.bias", *(f"norm.{n}" for n in ("running_mean", "running_var"))]
    if gate:
        new |= {f"{body}frequency.gate.{n}" for n in (*parameters, "norm.num_batches_tracked")}
    after = network.state_dict()
    assert after.keys() == want | refitted | new
    changed = {key for key in want if not torch.equal(after[key], before[key])}
    assert changed == (set() if channels == 64 else refitted & want)
    if channels == 24:  # "slice"
        key = f"{first}conv1.weight"
        assert torch.equal(after[key], before[key][:, :24])
    # The RGB network is as it was.
    assert rgb(name).state_dict().keys() == kept.keys()
    assert all(torch.equal(rgb(name).state_dict()[key], kept[key]) for key in kept)


@pytest.mark.parametrize("name", ["mask", "deeplab"])
def test_the_network_stays_of_its_class_with_the_stem_first(name: str) -> None:
    network = made(name, 24)
    assert type(network) is type(rgb(name)) and network.__dict__.keys() == rgb(name).__dict__.keys()
    layers = [n for n, _ in _dense.body_of(network).named_children()]
    assert layers == ["frequency", "layer1", "layer2", "layer3", "layer4"]
    recipe = recipe_of(network)
    assert recipe is not None and recipe.channels == ChannelSelection.of(24)
    place = "backbone.body" if name == "mask" else "backbone"
    stem = ", ".join(f"{place}.{n}" for n in ("conv1", "bn1", "relu", "maxpool"))
    assert recipe.changes[0] == f"{stem}: {place}.frequency in their place"
    fitted = f"{place}.layer1.0.conv1: 64 -> 24 channels, first columns kept"
    assert recipe.changes[1] == fitted
    if name == "mask":
        assert recipe.changes[-1] == "transform: mean 0, std 1"
        assert network.transform.image_mean == [0, 0, 0] != rgb(name).transform.image_mean
        assert network.transform.image_std == [1, 1, 1] != rgb(name).transform.image_std


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_is_that_of_the_rgb_network(training: bool) -> None:
    network = from_rgb(copy.deepcopy(rgb("fcn-18")).train(training), gate=True)
    assert {module.training for module in network.modules()} == {training}


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, None])
def test_refitted_layers_train_where_torchvision_froze_layer1(norm: Any) -> None:
    torch.manual_seed(0)
    settings = {} if norm is None else {"norm_layer": norm}
    backbone = resnet18_fpn(trainable_layers=2, **settings)
    before = detection.FasterRCNN(backbone, **RCNN)
    bn2 = before.backbone.body.layer1[0].bn2
    for buffer in (bn2.weight.detach(), bn2.bias.detach(), bn2.running_mean, bn2.running_var):
        buffer.fill_(7)
    network = from_rgb(before, 24, gate=True)
    body, first = network.backbone.body, network.backbone.body.layer1[0]
    trained = {n for n, p in body.named_parameters() if p.requires_grad}
    late = {f"{place}.{n}" for place in ("layer3", "layer4") for n in _names(body, place)}
    gate = {f"frequency.gate.{n}" for n, _ in stem_of(network).gate.named_parameters()}
    projection = {f"layer1.0.downsample.{n}" for n, _ in first.downsample.named_parameters()}
    assert len(projection) == (3 if norm else 1)
    assert trained == late | gate | projection | {"layer1.0.conv1.weight"}
    # The norm that came with the projection knows nothing of what bn2 saw.
    new = first.downsample[1]
    assert {v.item() for v in (*new.weight, *new.running_var)} == {1.0}
    assert {v.item() for v in (*new.bias, *new.running_mean)} == {0.0}


def _names(body: nn.Module, place: str) -> list[str]:
    return [n for n, _ in body.get_submodule(place).named_parameters()]


def test_others_are_refused_by_name() -> None:
    mobile = detection.fasterrcnn_mobilenet_v3_large_fpn(**BARE, num_classes=2)
    expected = "got FasterRCNN of torchvision.*, a detector whose backbone is no ResNet with FPN$"
    with pytest.raises(ValueError, match=expected):
        from_rgb(mobile)
    without_fpn = torchvision.models.resnet18()
    layers = nn.Sequential(*list(without_fpn.children())[:-2])
    layers.out_channels = 512
    anchors = detection.rpn.AnchorGenerator(((32,),), ((1.0,),))
    pool = torchvision.ops.MultiScaleRoIAlign(["0"], 7, 2)
    plain_body = detection.FasterRCNN(layers, 2, rpn_anchor_generator=anchors, box_roi_pool=pool)
    with pytest.raises(ValueError, match=r"FasterRCNN of .* no ResNet with FPN$"):
        from_rgb(plain_body)
    segments = segmentation.lraspp_mobilenet_v3_large(**BARE, num_classes=2)
    expected = "got LRASPP of torchvision.*, a segmenter whose backbone is no ResNet$"
    with pytest.raises(ValueError, match=expected):
        from_rgb(segments)
    # Its stem is read elsewhere.
    body = IntermediateLayerGetter(without_fpn, {"relu": "aux", "layer4": "out"})
    head = segmentation.fcn.FCNHead
    reads_stem = segmentation.FCN(body, head(512, 2), head(64, 2))
    with pytest.raises(ValueError, match=r"got FCN of .* whose backbone is no ResNet$"):
        from_rgb(reads_stem)


@pytest.mark.parametrize("name", ["faster", "fcn-18"])
def test_spatial_is_refused(name: str) -> None:
    family = "detector" if name == "faster" else "segmenter"
    with pytest.raises(ValueError, match=f"spatial must be False for {family}, .*, got True"):
        from_rgb(rgb(name), spatial=True)


# Coefficients


@pytest.mark.parametrize("chroma", ["4:4:4", "dctnet"])
def test_layer1_of_a_detector_sees_the_formula(chroma: str) -> None:
    """Pictures that need no resizing, the second with a black border to a multiple of 32."""
    network = made("mask", 24, statistics=STATISTICS, chroma=chroma)
    images = pictures((64, 90), (64, 71))
    with seen_by(network.backbone.body.layer1) as seen:
        network(images)
    batch = torch.stack([pad(image, (0, 96 - image.shape[-1])) for image in images]) / 255
    want = plain(batch, ChannelSelection.of(24), chroma=chroma)
    assert seen[0].shape == want.shape == (2, 24, 16, 24)
    assert (seen[0] - want).abs().max() < 1e-3


@pytest.mark.parametrize("size", [(64, 96), (53, 70), (7, 1)])
def test_layer1_of_a_segmenter_sees_the_formula(size: tuple[int, int]) -> None:
    network = made("fcn-18", [70, 3, 3, 191], statistics=STATISTICS)
    images = torch.stack(pictures(size, size))
    with seen_by(network.backbone.layer1) as seen:
        network(images)
    want = plain(images / 255, ChannelSelection.of([70, 3, 3, 191]))
    assert seen[0].shape == want.shape == (2, 4, math.ceil(size[0] / 4), math.ceil(size[1] / 4))
    assert seen[0].dtype == torch.float32
    assert (seen[0] - want).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["mask", "fcn-18"])
def test_layer1_sees_what_the_gate_leaves(name: str) -> None:
    network = made(name, 24, gate=True, statistics=STATISTICS)
    stem = stem_of(network)
    stem.gate.forced = ChannelSelection.of([0, 64])
    images = pictures((64, 96), (64, 96))
    with seen_by(_dense.body_of(network).layer1) as seen:
        _, gate = network(images)
    want = plain(torch.stack(images) / 255, ChannelSelection.of(24))
    is_open = torch.tensor([channel in (0, 64) for channel in ChannelSelection.of(24)])
    assert torch.equal(gate, is_open.float().expand(2, 24))
    assert (seen[0] - want * is_open.view(24, 1, 1)).abs().max() < 1e-3


def test_layer2_of_stride_1() -> None:
    network = made("faster", 24, layer2_stride=1)
    features = network.backbone(torch.zeros(1, 3, 64, 96))
    sizes = [tuple(f.shape[-2:]) for f in features.values()]
    assert sizes == [(16, 24), (16, 24), (8, 12), (4, 6), (2, 3)]
    assert len(network(pictures((64, 96)))) == 1


# Detectors


def _trains_a_step(network: nn.Module, heads: list[str]) -> None:
    network.train()
    stem = stem_of(network)
    images = pictures((60, 80), (77, 51))
    losses, gate = network(images, targets_of(images))
    want = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    want |= {f"loss_{head.partition('_')[0]}" for head in heads if head.startswith("mask")}
    assert losses.keys() == want
    assert gate.shape == (2, 192) and gate.requires_grad
    loss = sum(losses.values()) + gate_penalty(gate)
    assert all(value.isfinite() for value in losses.values()) and loss.isfinite()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss.backward()
    parts = {
        "layer1": network.backbone.body.layer1[0].conv1.weight,
        **{f"gate.{name}": p for name, p in stem.gate.named_parameters()},
        "rpn": network.rpn.head.bbox_pred.weight,
        **{head: network.roi_heads.get_submodule(head).weight for head in heads},
    }
    del parts["gate.squeeze.bias"]  # which the norm behind it takes off again
    before = {name: p.detach().clone() for name, p in parts.items()}
    for name, p in parts.items():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0, name
    optimizer.step()
    for name, p in parts.items():
        assert not torch.equal(p, before[name]), name


BOX = ["box_head.fc6", "box_predictor.cls_score", "box_predictor.bbox_pred"]
MASK = ["mask_head.0.0", "mask_predictor.mask_fcn_logits"]


@pytest.mark.parametrize(("name", "heads"), [("faster", BOX), ("mask", BOX + MASK)])
def test_a_detector_trains_a_step_with_gate_and_penalty(name: str, heads: list[str]) -> None:
    _trains_a_step(made(name, gate=True), heads)


def test_mask_rcnn_resnet50_trains_a_step() -> None:
    torch.manual_seed(0)
    network = detection.maskrcnn_resnet50_fpn(**BARE, **RCNN, min_size=128, max_size=128)
    _trains_a_step(from_rgb(network, gate=True), BOX + MASK)


@pytest.mark.parametrize("name", ["faster", "mask", "keypoint", "retinanet", "fcos"])
def test_detections_lie_in_pictures_of_any_size(name: str) -> None:
    network = made(name, gate=True)
    images = pictures((60, 80), (151, 103), (33, 96))
    with torch.no_grad():
        detections, gate = network(images)
        assert gate.shape == (3, 192)
        assert len(detections) == 3
        for found, image in zip(detections, images, strict=True):
            h, w = image.shape[-2:]
            boxes = found["boxes"]
            assert 0 < len(boxes) <= 4
            assert (boxes >= 0).all() and (boxes <= torch.tensor([w, h, w, h])).all()
            assert boxes.max() > 0.5 * min(h, w)  # in the scale of the picture
            if name == "mask":
                assert found["masks"].shape == (len(boxes), 1, h, w)
        # The same pictures, floating point.
        again, gate_again = network([image / 255 for image in images])
        mixed, _ = network((images[0], images[1].double() / 255, images[2] / 255))
    assert equal(detections, again) and torch.equal(gate, gate_again)
    assert equal(detections, mixed)


def test_a_batch_is_a_list_of_pictures() -> None:
    network = made("faster", 24)
    images = pictures((64, 96), (64, 96))
    before = [image.clone() for image in images]
    with torch.no_grad():
        want = network(images)
        assert equal(network(torch.stack(images)), want)
        assert equal(network(images=images), want)
    assert all(torch.equal(a, b) for a, b in zip(images, before, strict=True))


def test_losses_without_a_gate_come_alone() -> None:
    network = made("faster", 24).train()
    images = pictures((64, 96))
    losses = network(images, targets=targets_of(images))
    assert isinstance(losses, dict) and all(value.isfinite() for value in losses.values())


# Segmenters


@pytest.mark.parametrize("name", SEGMENTERS)
def test_masks_have_the_size_of_the_pictures(name: str) -> None:
    network, size = made(name, gate=True), (53, 70)
    images = pictures(size, size)
    with torch.no_grad():
        output, gate = network(images)
        assert gate.shape == (2, 192)
        assert list(output) == (["out", "aux"] if name.endswith("aux") else ["out"])
        for masks in output.values():
            assert masks.shape == (2, 3, *size) and masks.isfinite().all()
        if name == "fcn-18":
            batch = torch.stack(images)
            for same in (batch, batch / 255, batch.double() / 255, [i / 255 for i in images]):
                again, gate_again = network(x=same)
                assert torch.equal(again["out"], output["out"]) and torch.equal(gate_again, gate)
            assert network(images[:1])[0]["out"].shape == (1, 3, *size)


@pytest.mark.parametrize("name", ["fcn-18", "deeplab-aux"])
def test_a_segmenter_trains_a_step(name: str) -> None:
    network = made(name, gate=True).train()
    output, gate = network(pictures((53, 70), (53, 70)))
    labels = torch.randint(0, 3, (2, 53, 70), generator=generator())
    losses = [nn.functional.cross_entropy(masks, labels) for masks in output.values()]
    loss = sum(losses) + gate_penalty(gate)
    loss.backward()
    assert loss.isfinite()
    trained = [network.classifier, stem_of(network).gate, network.backbone.layer1]
    if name.endswith("aux"):
        trained.append(network.aux_classifier)
    for part in trained:
        weights = [p for p in part.parameters() if p.dim() > 1]
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in weights)


# Pictures that are refused

WRONG = {
    "integers": (lambda p: [p[0].int()], TypeError, r"images\[0\] must be uint8 or .* torch.int32"),
    "no tensor": (lambda p: [p[0], "cat"], TypeError, r"images\[1\] must be a tensor, got 'cat'"),
    "no list": (lambda p: 3, TypeError, r"images must be a list of tensors \[3, H, W\], got 3"),
    "text": (lambda p: "cat", TypeError, r"images must be a list of tensors .* got 'cat'"),
    "none": (lambda p: [], ValueError, "images must hold at least one picture, got none"),
    "grey": (lambda p: [p[0][:1]], ValueError, r"images\[0\] must be \[3, H, W\] .* \[1, 64, 96\]"),
    "empty": (lambda p: [p[0][:, :0]], ValueError, r"images\[0\] must be .* got \[3, 0, 96\]"),
    "one": (lambda p: p[0], ValueError, r"images must be \[N, 3, H, W\] .* got \[3, 64, 96\]"),
    "batches": (lambda p: [p[0][None]], ValueError, r"images\[0\] must be .* \[1, 3, 64, 96\]"),
    "bool": (lambda p: p[0][None] > 9, TypeError, "images must be uint8 or .* got torch.bool"),
}


@pytest.mark.parametrize("name", ["faster", "fcn-18"])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_pictures_are_named(case: str, name: str) -> None:
    make, error, message = WRONG[case]
    function = "FasterRCNN" if name == "faster" else "FCN"
    with pytest.raises(error, match=f"^{function}: {message}"):
        made(name, 24)(make(pictures((64, 96))))


def test_a_segmenter_takes_pictures_of_one_size() -> None:
    message = r"^FCN: images must be of one size, got \[3, 64, 96\] and \[3, 64, 95\]"
    with pytest.raises(ValueError, match=message):
        made("fcn-18", 24)(pictures((64, 96), (64, 95)))


def test_missing_pictures_are_torchs_error() -> None:
    with pytest.raises(TypeError, match="images"):
        made("faster", 24)()


# The gate's way out


def test_a_gate_does_not_survive_an_exception() -> None:
    network = made("fcn-18", gate=True)
    made_gates: list[weakref.ref[Tensor]] = []
    stem_of(network).gate.register_forward_hook(
        lambda _, __, output: made_gates.append(weakref.ref(output[1]))
    )

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    handle = network.backbone.layer2.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="no"):
        network(pictures((64, 96)))
    handle.remove()
    # Gone as soon as another call begins.
    seen: list[Tensor | None] = []
    network.register_forward_pre_hook(lambda *_: seen.append(made_gates[0]()))
    images = pictures((64, 96), (64, 96), (64, 96))
    _, gate = network(images)
    assert seen == [None] and gate.shape == (3, 192)
    # Nor is that of a body that was called alone given to another network.
    network.backbone(torch.zeros(5, 3, 64, 96))
    other = made("fcn-18", 24)
    assert not isinstance(other(images), tuple)
    assert network(images)[1].shape == (3, 192)


def test_threads_do_not_mix_their_gates() -> None:
    network = made("fcn-18", gate=True)
    meeting = threading.Barrier(2, timeout=60)
    found: dict[int, Tensor] = {}

    def wait(*_: object) -> None:
        meeting.wait()

    def work(count: int) -> None:
        with torch.no_grad():
            found[count] = network(pictures(*[(64, 96)] * count))[1]

    network.backbone.layer2.register_forward_pre_hook(wait)  # behind the gate
    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {count: len(gate) for count, gate in found.items()} == {1: 1, 2: 2}


@pytest.mark.parametrize("name", ["faster", "fcn-18"])
def test_copies_stand_alone(name: str) -> None:
    network = made(name, gate=True)
    images = pictures((64, 96), (64, 96))
    network(images)  # with a graph behind it
    stem_of(network)._traced = (
        stem_of(network).gate.squeeze.weight * 2
    )  # and one left by a compiler
    copies = [copy.deepcopy(network), pickle.loads(pickle.dumps(network))]
    with torch.no_grad():
        want, gate = network(images)
        for made_again in copies:
            assert stem_of(made_again)._traced is None
            got, same_gate = made_again(images)
            assert torch.equal(gate, same_gate)
            assert equal(got if name == "faster" else [got], want if name == "faster" else [want])
            assert made_again.state_dict().keys() == network.state_dict().keys()
            stem_of(made_again).gate.forced = ChannelSelection.of([5])
            assert made_again(images)[1].sum() == 2
            stem_of(made_again).gate = None
            assert not isinstance(made_again(images), tuple)
        assert torch.equal(network(images)[1], gate)


def test_a_stem_may_be_made_static() -> None:
    """As freeze does: fewer channels and no gate, with the outputs of the gate that is forced."""
    network = made("fcn-18", gate=True)
    images = torch.stack(pictures((53, 70), (53, 70)))
    kept = [0, 64, 70, 130]
    stem = stem_of(network)
    stem.gate.forced = ChannelSelection.of(kept)
    with torch.no_grad():
        want = network(images)[0]["out"]
        _resnet.keep(_dense.body_of(network), kept)
        statistics = ChannelStatistics.photographs()
        stem.transform, stem.gate = FrequencyTransform(kept, statistics), None
        got = network(images)["out"]
    assert want.std() > 0.01
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-4)


# Types, compilers


@pytest.mark.parametrize("name", ["mask", "fcn-18"])
def test_autocast(name: str) -> None:
    network = made(name, gate=True)
    images = pictures((64, 96), (64, 96))
    layer1 = _dense.body_of(network).layer1
    with seen_by(layer1) as seen, torch.no_grad():
        want, _ = network(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got, gate = network(images)
    assert [x.dtype for x in seen] == [torch.float32, torch.bfloat16]
    # A quarter of the distance of neighbours in bfloat16 would be the best.
    assert (seen[1].float() - seen[0]).abs().max() <= 2**-8 * seen[0].abs().max()
    assert gate.dtype == torch.bfloat16
    if name == "mask":
        assert all(v.isfinite().all() for found in got for v in found.values())
        return
    assert got["out"].dtype == torch.bfloat16
    error = (got["out"].float() - want["out"]).abs().mean()
    assert error < 0.05 * want["out"].abs().mean()
    network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, gate = network(images)
        loss = output["out"].float().mean() + gate_penalty(gate.float())
    loss.backward()
    assert layer1[0].conv1.weight.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_types(dtype: torch.dtype) -> None:
    network = made("fcn-18", gate=True)
    images = torch.stack(pictures((53, 70), (53, 70)))
    with torch.no_grad():
        want = network(images)[0]["out"]
        network.to(dtype)
        for same in (images, images / 255, (images / 255).to(dtype)):
            with seen_by(network.backbone.layer1) as seen:
                output, gate = network(same)
            assert seen[0].dtype == output["out"].dtype == gate.dtype == dtype
            error = (output["out"] - want).abs().mean() / want.abs().mean()
            assert error < (1e-5 if dtype == torch.float64 else 0.2)  # of its own rounding
    detector = made("faster", 24).double()
    assert detector(pictures((64, 96)))[0]["boxes"].dtype == torch.float64


# What Dynamo says of a gate that is handed from one graph to the next.
NON_LEAF = "ignore:The .grad attribute of a Tensor that is not a leaf"


@pytest.fixture
def compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("compiler")
@pytest.mark.filterwarnings(NON_LEAF)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_a_segmenter_compiles_in_one_graph(whole: bool, training: bool) -> None:
    """Called in a compiled function, or compiled itself: hook, forward and hook one by one."""
    network = made("fcn-18", gate=True).train(training)
    images = torch.stack(pictures((53, 70), (53, 70)))

    def call(images: Tensor) -> Any:
        return network(images)

    compiled = torch.compile(call if whole else network, backend="eager", fullgraph=True)
    for same in (images, images):
        torch.manual_seed(0)
        want, gate = network(same)
        torch.manual_seed(0)
        got, same_gate = compiled(same)
        assert torch.equal(gate, same_gate)
        assert torch.allclose(got["out"], want["out"], rtol=1e-3, atol=1e-3)
        assert stem_of(network)._traced is None
    (got["out"].sum() + same_gate.sum()).backward()
    assert stem_of(network).gate.logits.weight.grad is not None


@pytest.mark.usefixtures("compiler")
@pytest.mark.filterwarnings(NON_LEAF)
def test_parts_compile() -> None:
    network = made("fcn-18", gate=True)
    images = pictures((53, 70), (53, 70))
    want, gate = network(images)
    stem = stem_of(network)
    for part in (stem, network.backbone):
        part.compile(backend="eager", fullgraph=True)
        got, same_gate = network(images)
        assert torch.equal(gate, same_gate) and torch.equal(got["out"], want["out"])
        part._compiled_call_impl = None
    network.backbone.frequency = torch.compile(stem, backend="eager", fullgraph=True)
    assert torch.equal(network(images)[1], gate)
    network.backbone.frequency = stem
    # All but the stem: an error, and no gate of another call.
    stem.forward = torch.compiler.disable(stem.forward)
    with pytest.raises(RuntimeError, match="FCN: its FrequencyStem must be compiled with the net"):
        torch.compile(network, backend="eager")(images)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.filterwarnings("ignore:.create_unbacked_symint. is deprecated:FutureWarning")
@pytest.mark.filterwarnings(NON_LEAF)
def test_a_detector_compiles_in_parts() -> None:
    network = made("faster", gate=True)
    images = pictures((60, 80), (77, 51))
    want, gate = network(images)
    got, same_gate = torch.compile(network, backend="eager")(images)
    assert torch.equal(gate, same_gate) and equal(got, want)


@pytest.mark.usefixtures("compiler")
def test_a_segmenter_exports() -> None:
    network = made("fcn-18", gate=True)
    images = torch.stack(pictures((53, 70), (53, 70)))
    want, gate = network(images)
    got, same_gate = torch.export.export(network, (images,)).module()(images)
    assert torch.allclose(got["out"], want["out"], rtol=1e-4, atol=1e-4)
    assert torch.equal(gate, same_gate)
