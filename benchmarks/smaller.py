"""How much faster smaller networks are, beside the ratio of their multiply-adds."""

import argparse
from math import prod

import torch
from goals import begin, medians, row
from networks import DATA, silero_task
from torch import nn

from skspectral import SpectralRNNPruner

PART = "smaller networks"
INTRINSIC_SPARSE_STRUCTURES = 10.59  # what their paper reports at these sizes


class WordModel(nn.Module):
    """A language model: the next of ten thousand words."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10_000, 1500)
        self.rnn = nn.LSTM(1500, 1500, num_layers=2, batch_first=True)
        self.head = nn.Linear(1500, 10_000)

    def forward(self, tokens):
        """Logits of the words that follow."""
        return self.head(self.rnn(self.embedding(tokens))[0])


def multiply_adds(module, *inputs):
    """Multiply-adds of a forward pass in linear maps, convolutions and recurrent layers."""
    found = []

    def count(part, given, output):
        x = given[0].data  # of packed sequences, the steps that are run
        if isinstance(part, nn.Linear):
            found.append(x.numel() * part.out_features)
        elif isinstance(part, (nn.Conv1d, nn.Conv2d)):
            found.append(output.numel() * part.in_channels // part.groups * prod(part.kernel_size))
        else:
            weights = [p.numel() for name, p in part.named_parameters() if "weight" in name]
            found.append(sum(weights) * prod(x.shape[:-1]))

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.RNNBase, nn.RNNCellBase)
    parts = [part for part in module.modules() if isinstance(part, kinds)]
    hooks = [part.register_forward_hook(count) for part in parts]
    with torch.inference_mode():
        module(*inputs)
    for hook in hooks:
        hook.remove()
    return sum(found)


def times(dense, small, *inputs, repeats=9):
    """How many times faster the small one is, and how many times fewer multiply-adds it has."""

    def run(module):
        with torch.inference_mode():
            module(*inputs)

    run(dense), run(small)
    slow, fast = medians(lambda: run(dense), lambda: run(small), repeats=repeats)
    return slow / fast, multiply_adds(dense, *inputs) / multiply_adds(small, *inputs)


def show(name, batch, dense, small, *inputs, goal=0.8):
    """The rows of one network."""
    faster, fewer = times(dense, small, *inputs)
    size = f"batch {batch}"
    beside = {"times fewer": fewer}
    of = "times fewer multiply-adds"
    row(PART, f"{name}: speedup", size, faster / fewer, goal, of, at_least=True, **beside)
    return faster


def word_model():
    """1500 and 1500 nodes to the 373 and 315 of Intrinsic Sparse Structures."""
    torch.manual_seed(0)
    dense = WordModel().eval()
    m = {"rnn.l0": 373, "rnn.l1": 315}
    tokens = torch.randint(10_000, (64, 10))
    # Random weights run as fast as trained ones, and so it does not matter which nodes stay.
    pruner = SpectralRNNPruner(dense, m, solver="variance", objective="one-step", n_refit=0)
    small = pruner.fit(tokens).pruned_module_
    for batch in (1, 10):
        given = torch.randint(10_000, (batch, 35))
        faster = show("LSTM(1500)x2, words", batch, dense, small, given)
        goal, of = INTRINSIC_SPARSE_STRUCTURES, "dense: times faster"
        row(PART, "LSTM(1500)x2, words: whole", f"batch {batch}", faster, goal, of, at_least=True)


def gru():
    """512 to 171 nodes."""
    torch.manual_seed(0)
    dense = nn.GRU(64, 512, batch_first=True).eval()
    small = SpectralRNNPruner(dense, 171, solver="variance", objective="one-step")
    small = small.fit(torch.randn(64, 20, 64)).pruned_module_
    for batch in (1, 10):
        show("GRU(512) to 171", batch, dense, small, torch.randn(batch, 35, 64))


def silero():
    """The voice detector, half of its nodes."""
    if DATA is None:
        print("SKSPECTRAL_DATA is not set: silero_vad left out")
        return
    task = silero_task()
    batch = task.X[0]
    small = SpectralRNNPruner(task.module, 0.5, objective="one-step").fit(iter(task.X[:4]))
    for size in (1, 10):
        given = [each[:size] for each in batch]
        show("silero_vad, half", size, task.module, small.pruned_module_, *given)


PARTS = {"words": word_model, "gru": gru, "silero": silero}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with begin(arguments.threads):
        for name in arguments.what or PARTS:
            PARTS[name]()
