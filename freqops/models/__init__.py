"""Networks that read frequency channels: surgery on torchvision and timm models.

    network = freqops.models.from_rgb(torchvision.models.resnet50(weights="DEFAULT"), channels=24)
    scores = network(images)                        # uint8 or float pictures, the transform inside
    scores = network.network(coefficients)          # or coefficients, from a loader

torchvision and timm are imported by the functions that need them, not with the package.
"""

from freqops.models._file import about, load, save
from freqops.models._freeze import freeze
from freqops.models._network import FrequencyNetwork
from freqops.models._released_networks import LoadReport, load_released
from freqops.models._summary import Summary, summarize
from freqops.models._surgery import from_rgb
from freqops.models._zoo import (
    deeplabv3_resnet50,
    fasterrcnn_resnet50_fpn,
    fcn_resnet50,
    maskrcnn_resnet50_fpn,
    mobilenet_v2,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)

__all__ = [
    "FrequencyNetwork",
    "LoadReport",
    "Summary",
    "about",
    "deeplabv3_resnet50",
    "fasterrcnn_resnet50_fpn",
    "fcn_resnet50",
    "freeze",
    "from_rgb",
    "load",
    "load_released",
    "maskrcnn_resnet50_fpn",
    "mobilenet_v2",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "save",
    "summarize",
]
