"""Forward passes, counted."""

from collections import Counter
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from skspectral.rnn.losses.instrumented import InstrumentedRNN


@contextmanager
def passes(n_nodes):
    """Count the passes of recurrent layers of so many nodes, in training and in evaluation.

    The passes that compare a pruned network with the given one, on a few batches, are left out.
    They run without gradients, as those over all sequences do in inference mode.
    """
    count = Counter(training=0, evaluation=0)

    def hook(module, _args, _output):
        if not (torch.is_grad_enabled() or torch.is_inference_mode_enabled()):
            return
        if issubclass(type(module), nn.RNNBase | InstrumentedRNN) and module.hidden_size == n_nodes:
            count["training" if module.training else "evaluation"] += 1

    with register_module_forward_hook(hook):
        yield count
