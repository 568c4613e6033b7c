"""Training, evaluation and selection: the paper's loop, on one process or many.

    settings = freqops.training.Settings(data="photos", output="run", model="resnet18", gate=True)
    freqops.training.train(settings)

Under torchrun, `with freqops.training.join() as processes: train(settings, processes)`.
"""

from freqops.training._evaluate import Evaluation, evaluate
from freqops.training._loop import Diverged, Result, train
from freqops.training._processes import Processes, join
from freqops.training._settings import Settings, configs, read_config

__all__ = [
    "Diverged",
    "Evaluation",
    "Processes",
    "Result",
    "Settings",
    "configs",
    "evaluate",
    "join",
    "read_config",
    "train",
]
