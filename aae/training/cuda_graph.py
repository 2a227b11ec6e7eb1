"""A training step that a GPU records once and then repeats without Python.

A step consists of about two hundred kernels of a few microseconds each. Python takes longer to
launch them one by one than the GPU takes to run them; a CUDA graph launches all of them at once.
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]

# Calls that run normally before the recording, since libraries initialise themselves in them.
WARM_UP = 3


class Recorded:
    """A function of tensors on a GPU, recorded once for each shape of its inputs.

    The function may change other tensors in place. Everything that it reads must stay at the same
    address, and nothing in it may wait for the GPU. Its outputs are valid until the next call.

    Args:
        function: maps tensors by name to tensors by name.
    """

    def __init__(self, function: Callable[[Tensors], dict[str, Tensor]]) -> None:
        self.function = function
        self.calls: Counter[tuple[torch.Size, ...]] = Counter()
        self.recordings: dict[
            tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, Tensors, dict[str, Tensor]]
        ] = {}
        # A separate stream, because recording requires that no earlier work is pending.
        self.stream = torch.cuda.Stream()

    def __call__(self, inputs: Tensors) -> dict[str, Tensor]:
        """Call the function, or repeat its recording."""
        shapes = tuple(tensor.shape for tensor in inputs.values())
        self.calls[shapes] += 1
        if self.calls[shapes] <= WARM_UP:
            return self._call(inputs)
        if shapes not in self.recordings:
            self.recordings[shapes] = self._record(inputs)
        graph, own_inputs, outputs = self.recordings[shapes]
        for name, tensor in inputs.items():
            own_inputs[name].copy_(tensor)
        graph.replay()
        return outputs

    def _call(self, inputs: Tensors) -> dict[str, Tensor]:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            outputs = self.function(inputs)
        torch.cuda.current_stream().wait_stream(self.stream)
        return outputs

    def _record(self, inputs: Tensors) -> tuple[torch.cuda.CUDAGraph, Tensors, dict[str, Tensor]]:
        own_inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            outputs = self.function(own_inputs)
        return graph, own_inputs, outputs
