"""Train the networks of the experiments, once.

A network lands in ``benchmarks/trained`` if it is small, else in ``~/.cache/skspectral/trained``.
Every epoch is saved, and a training that was stopped goes on from there.
"""

import argparse
import copy
import json
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from corpora import mnist, words
from irnn import PixelNet
from language import LanguageNet, Pieces
from reading import SpanNet, passages
from safetensors.torch import load_file, save_file
from skorch import NeuralNet
from skorch.callbacks import Callback, GradientNormClipping
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from skorch.history import History
from skorch.utils import to_device
from torch import nn

from skspectral.utils.safetensors_io import replacing

torch.backends.cudnn.allow_tf32 = False  # hundreds of steps want all digits of float32

HERE = Path(__file__).parent / "trained"
ELSEWHERE = Path.home() / ".cache" / "skspectral" / "trained"
SMALL = 200_000  # bytes


@dataclass
class Recipe:
    """How a network is trained: Adam, a learning rate that falls along a cosine, clipped gradients.

    Parameters
    ----------
    module : callable
        Makes the network.
    data : callable
        Gives the sequences to train on and to watch.
    epochs : int
        Passes over them.
    lr : float
        First learning rate.
    batch_size : int
        Sequences in a step.
    seed : int
        Of the first weights and of the order of the sequences.
    precision : str
        Of matrix products in training, as ``torch.set_float32_matmul_precision`` takes it.
    autocast : bool
        Train in bfloat16, also what is not a matrix product.
    teacher : str or None
        A trained network, to learn its probabilities instead of the labels.
    """

    module: object
    data: object
    epochs: int
    lr: float
    batch_size: int
    seed: int = 0
    precision: str = "highest"
    autocast: bool = False
    teacher: str | None = None


@cache
def pixels():
    """MNIST pixel by pixel: 784 steps."""
    x, y, x_test, y_test = mnist()
    return tuple(
        Dataset((images.reshape(len(images), 784, 1) / 255).astype(np.float32), labels.astype(int))
        for images, labels in ((x, y), (x_test, y_test))
    )


@cache
def penn():
    """Penn Treebank in pieces of 35 words."""
    text = words()
    return Pieces(text["train"], 35), Pieces(text["valid"], 35)


@cache
def spans():
    """Passages, questions and the spans of the answers."""
    return tuple(
        Dataset((text, question), span)
        for text, question, span in (passages(16000, seed=0), passages(4000, seed=1))
    )


PIXEL = partial(Recipe, data=pixels, epochs=100, lr=3e-4, batch_size=128)
WORDS = partial(Recipe, data=penn, epochs=20, lr=2e-3, batch_size=20, precision="medium")
LSTM = {"n_layers": 2, "dropout": 0.25}
LSTM_WORDS = partial(WORDS, autocast=True)
RECIPES = {
    **{f"pixels-128-{seed}": PIXEL(partial(PixelNet, 128), seed=seed) for seed in range(3)},
    **{f"pixels-42-{seed}": PIXEL(partial(PixelNet, 42), seed=seed) for seed in range(3)},
    "pixels-42-distilled-0": PIXEL(partial(PixelNet, 42), teacher="pixels-128-0"),
    "reading": Recipe(SpanNet, spans, epochs=12, lr=3e-3, batch_size=64),
    **{
        f"words-rnn-{n}-{seed}": WORDS(partial(LanguageNet, "RNN", 128, n), seed=seed)
        for n in (128, 42)
        for seed in range(3)
    },
    **{
        f"words-rnn-42-distilled-{seed}": WORDS(
            partial(LanguageNet, "RNN", 128, 42), seed=seed, teacher=f"words-rnn-128-{seed}"
        )
        for seed in range(3)
    },
    **{
        f"words-lstm-{n}-{seed}": LSTM_WORDS(
            partial(LanguageNet, "LSTM", 200, n, **LSTM), seed=seed
        )
        for n in (200, 100, 66)
        for seed in range(3)
    },
}


class Net(NeuralNet):
    """A net whose module knows its loss."""

    autocast, teacher = False, None

    def infer(self, x, **_):
        """Leave the work to the loss."""
        return to_device(x, self.device)

    def get_loss(self, y_pred, y_true, *_, **__):
        """Return the loss of the module on the labels, or on the probabilities of the teacher."""
        y_true = to_device(y_true, self.device)
        if self.teacher is not None:
            with torch.no_grad():
                y_true = self.teacher(y_pred).softmax(-1)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            return self.module_.loss(y_pred, y_true)


class Epochs(Callback):
    """The learning rate of every epoch, its own shift of the text, and a line to read."""

    def __init__(self, recipe):
        self.recipe = recipe

    def on_epoch_begin(self, net, dataset_train=None, **_):
        """Set the rate and the shift by the number of the epoch alone, also after a stop."""
        done = len(net.history) - 1
        rate = self.recipe.lr * (1 + np.cos(np.pi * done / self.recipe.epochs)) / 2
        for group in net.optimizer_.param_groups:
            group["lr"] = max(float(rate), self.recipe.lr / 100)
        torch.manual_seed(1000 * self.recipe.seed + done)
        if isinstance(dataset_train, Pieces):
            dataset_train.shift(done)

    def on_epoch_end(self, net, **_):
        """Print how it goes."""
        row = net.history[-1]
        numbers = f"train {row['train_loss']:.4f}, watched {row['valid_loss']:.4f}"
        print(f"epoch {len(net.history)}: {numbers}, {row['dur']:.0f} s", flush=True)


class BackFromDivergence(Callback):
    """Goes on from the best weights so far where the loss in training is suddenly far above."""

    FACTOR = 1.25

    def on_train_begin(self, net, **_):
        """Nothing is known yet."""
        self.best_, self.state_ = np.inf, None

    def on_epoch_end(self, net, **_):
        """Keep what is better, go back from what is far worse."""
        loss, parts = net.history[-1, "train_loss"], (net.module_, net.optimizer_)
        if loss <= self.best_:
            self.best_, self.state_ = loss, copy.deepcopy([part.state_dict() for part in parts])
        elif not loss < self.FACTOR * self.best_:
            for part, state in zip(parts, copy.deepcopy(self.state_), strict=True):
                part.load_state_dict(state)


class Saved(Callback):
    """All that training goes on from, in a file that is there as a whole or not at all."""

    def __init__(self, path):
        self.path = path

    def on_epoch_end(self, net, **_):
        """Write it."""
        state = [part.state_dict() for part in (net.module_, net.optimizer_)]
        with replacing(self.path) as beside:
            torch.save([*state, json.dumps(net.history.to_list())], beside)

    def load(self, net):
        """Read it."""
        module, optimizer, history = torch.load(self.path, map_location="cpu", weights_only=True)
        net.module_.load_state_dict(module)
        net.optimizer_.load_state_dict(optimizer)
        net.history = History(json.loads(history))


def trained(name):
    """A trained network, in evaluation mode."""
    for folder in (HERE, ELSEWHERE):
        path = folder / f"{name}.safetensors"
        if path.exists():
            module = RECIPES[name].module()
            module.load_state_dict(load_file(path), strict=False)
            return module.eval()
    raise FileNotFoundError(f"train it first: python benchmarks/train.py {name}")


def train(name, device):
    """Train a network, from where it was stopped if it was."""
    recipe = RECIPES[name]
    torch.set_float32_matmul_precision(recipe.precision)
    torch.manual_seed(recipe.seed)
    data, watched = recipe.data()
    saved = Saved(ELSEWHERE / "checkpoints" / f"{name}.pt")
    saved.path.parent.mkdir(parents=True, exist_ok=True)
    net = Net(
        recipe.module(),
        nn.Identity,
        optimizer=torch.optim.Adam,
        optimizer__fused=True,
        lr=recipe.lr,
        batch_size=recipe.batch_size,
        iterator_train__shuffle=True,
        train_split=predefined_split(watched),
        callbacks=[
            ("epochs", Epochs(recipe)),
            ("clip", GradientNormClipping(1.0)),
            ("back", BackFromDivergence()),
            ("saved", saved),
        ],
        device=device,
        verbose=0,
    ).initialize()
    net.autocast = recipe.autocast
    if recipe.teacher is not None:
        net.teacher = trained(recipe.teacher).to(device).logits  # skorch sets no modules here
    if saved.path.exists():
        saved.load(net)
    net.partial_fit(data, None, epochs=recipe.epochs - len(net.history))
    state = {key: value.contiguous() for key, value in unshared(net.module_.cpu()).items()}
    size = sum(value.nbytes for value in state.values())
    target = HERE if size < SMALL else ELSEWHERE
    target.mkdir(parents=True, exist_ok=True)
    save_file(state, target / f"{name}.safetensors")


def unshared(module):
    """The weights of a module, each once."""
    names = {parameter.data_ptr(): name for name, parameter in module.named_parameters()}
    state = module.state_dict()
    return {name: state[name] for name in names.values()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", choices=list(RECIPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for network in arguments.networks:
        print(network, flush=True)
        train(network, arguments.device)
