"""Targets that are the dense model's own outputs, for tasks that ask no more than to be like it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from autoprune.plugin import Batch, Data, Split, Task
from autoprune.plugin.data import mapped
from autoprune.study.predictor import Predictor


def following(data: Data, network: nn.Module, task: Task) -> Data:
    """The data with what the dense network puts out in place of its targets, where the task asks for that.

    Args:
        data: The study's.
        network: The dense network, bare, in ``eval()``; it may move to another device later.
        task: The study's.
    """
    if task.targets_are == "the data's":
        return data
    predictor = Predictor(network, data.normalization, task=task)

    def followed(split: Split) -> Split:
        def read(index: Tensor) -> Batch:
            inputs, _ = split.fetch(index)
            device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
            # Not in inference mode, wherever it is asked for: what is computed there no training could use later.
            with torch.inference_mode(mode=False), torch.no_grad():
                outputs = inputs.map(torch.clone).to(device).feed(predictor.to(device))
            return inputs, mapped(lambda tensor: tensor.detach().cpu(), outputs)

        return Split(len(split), read)

    return replace(data, train=followed(data.train), validation=followed(data.validation), test=followed(data.test))
