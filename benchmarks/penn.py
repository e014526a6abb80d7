"""The protocol on the Penn Treebank: word language models, pruned to a half or a third.

Perplexity of the test text before and after an epoch of fine-tuning, parameters and latency, of
spectral pruning with and without reconstruction, of the defaults, of what else people use, and of
networks of the small size that were trained from scratch. Needs the networks of ``train.py``.
"""

import argparse
from functools import partial

import torch
from corpora import words
from instead import LSTM_PEERS, PEERS
from jobs import collect
from language import N_WORDS, LanguageNet, perplexity
from protocol import METHODS, Task, jobs_of
from results import Results
from train import trained

from skspectral import Distillation, FineTune

PIECE, N_CALIBRATION = 70, 4096
EXAMPLE = torch.randint(N_WORDS, (1, PIECE), generator=torch.Generator().manual_seed(0))
SCRATCH, DISTILLED = "trained small from scratch", "small by distillation, full training"
COMPARED = (
    "spectral",
    "spectral, no reconstruction",
    "weights of least magnitude cut",
    "skspectral, default",
    "skspectral, 1000 steps",
    "skspectral, distilled",
)
# The dense network, nodes to keep, networks trained at that size, and what others do. Names of
# networks are to be followed by a seed.
CASES = {
    "RNN(128) to 42": (
        "words-rnn-128",
        42,
        {SCRATCH: "words-rnn-42", DISTILLED: "words-rnn-42-distilled"},
        PEERS,
    ),
    **{
        f"LSTM(200) x 2 to {m}": (
            "words-lstm-200",
            m,
            {SCRATCH: f"words-lstm-{m}"},
            PEERS | LSTM_PEERS,
        )
        for m in (100, 66)
    },
}


def task(name, m, device):
    """A network and the text; the best epoch is that on the text for validation."""
    dense, text = trained(name), {part: torch.from_numpy(each) for part, each in words().items()}
    kind, n_inputs = type(dense.rnn).__name__, dense.embedding.embedding_dim
    options = {"n_layers": dense.rnn.num_layers, "dropout": dense.dropout.p}
    train, watched = (pieces(text[part]) for part in ("train", "valid"))
    X, y = map(torch.cat, zip(train, watched, strict=True))
    return Task(
        dense,
        m,
        lambda n_nodes: LanguageNet(kind, n_inputs, n_nodes, **options),
        X,
        y,
        torch.arange(len(train[0]), len(X)),
        N_CALIBRATION,
        Distillation(2),
        FineTune(1, lr=5e-4),
        "perplexity",
        partial(perplexity, text=words()["test"]),
        device,
    )


def pieces(text):
    """A text in pieces, and the words that follow."""
    n_pieces = (len(text) - 1) // PIECE
    return [text[i : i + n_pieces * PIECE].view(n_pieces, PIECE) for i in (0, 1)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(CASES), help="all if none is named")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="rows at the same time")
    parser.add_argument("--device", default="cpu", help="where smaller networks are trained")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = Results("penn", ["network", "method"])
    for network in arguments.networks:
        name, m, trained_small, peers = CASES[network]
        methods = {method: METHODS[method] for method in COMPARED} | peers
        for seed in arguments.seeds:
            own = partial(task, f"{name}-{seed}", m, arguments.device)
            loaded = {
                method: partial(trained, f"{small}-{seed}")
                for method, small in trained_small.items()
            }
            jobs = [*jobs_of(network, seed, own, loaded, methods)]
            collect(results, jobs, [EXAMPLE], arguments.jobs)
