"""Export to ONNX, compared with torch before the file is written."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import skspectral

from ..rnn.runtime.wrappers import InitialStateWrapper
from ..rnn.serialization import network_of
from ..utils.doc_hints import refer_to_docs
from ..utils.safetensors_io import replacing
from ..utils.warn_user import warn_user
from .axes import Axes, Shape, dynamic_axes, input_shapes, other_sizes, output_shapes
from .plain_module import Inputs, PlainModule

# Largest difference from torch, relative to the largest value of an output.
TOLERANCE = 1e-4
# What the exporter says of itself and of the layers of torch.
CHATTER: tuple[tuple[type[Warning], str], ...] = (
    (torch.jit.TracerWarning, ""),  # type: ignore[attr-defined]  # public, but not in __all__
    (DeprecationWarning, ""),
    (FutureWarning, ""),
    (UserWarning, "The .grad attribute of a Tensor that is not a leaf"),
    (UserWarning, "The tensor attributes .* were assigned during export"),
    (UserWarning, "Constant folding"),
    (UserWarning, "Exporting a model to ONNX with a batch_size other than 1"),
    (UserWarning, "Provided key .* for dynamic axes is not a valid input"),
)


@refer_to_docs("Deployment")
def export_onnx(
    module: Any,
    example: Any,
    path: str | PathLike[str],
    *,
    dynamic: bool | Mapping[str, Mapping[int, str]] = True,
    int8: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Export a module to ONNX and check that ONNX Runtime gives the outputs of torch.

    Layers of torch become the operators ``RNN``, ``GRU`` and ``LSTM`` of ONNX. Before the file is
    written, ONNX Runtime runs it on the example and on larger and smaller sizes of every axis that
    may vary; no output may differ from that of torch by more than 1e-4 of its largest value.

    Inputs have the names of the parameters of ``forward``; tensors in tuples are numbered, as in
    ``hx_0`` and ``hx_1``. Outputs are called ``output``, ``output_1`` and so on. An output that has
    the shape of an input other than the first is taken to be the next value of this state, and its
    name is that of the input after ``next_``, such as ``next_hx_0``.

    Parameters
    ----------
    module : nn.Module or fitted pruner
        The module, or a pruner with a ``pruned_module_``. It is not changed; the file holds what it
        computes in evaluation mode.
    example : Tensor, tuple or dict
        What ``forward`` takes: a tensor, positional inputs, or inputs by name. To feed states back
        from one chunk of a sequence to the next, include the initial states, in the sizes that the
        module returns.
    path : str or path-like
        The file to write.
    dynamic : bool or dict, default=True
        The axes that may have other sizes than in the example. True finds them by trying other
        sizes; an axis along which the exported graph is not right, such as that of a loop over
        time steps, stays fixed, with a warning. A dict names them, as in
        ``{"x": {0: "batch", 1: "time"}, "h": {1: "batch"}}``; axes with the same label vary
        together.
    int8 : bool, default=False
        Whether to store weights in eight bits, by the dynamic quantization of ONNX Runtime. It
        covers ``LSTM`` and linear layers; ``GRU`` and ``RNN`` stay in float32, with a warning. Only
        shapes and finiteness of the outputs are then checked, and the metadata hold the largest
        relative error found.
    metadata : dict of str, default=None
        Further entries of the metadata in the file.

    Returns
    -------
    Path
        The file. Its metadata hold, as JSON: ``skspectral.version``; ``skspectral.n_parameters``;
        ``skspectral.states``, a dict from the name of each state that goes in to the name of its
        next value; for a pruner, ``skspectral.kept`` and ``skspectral.n_nodes``, the kept nodes and
        the number of nodes before, by layer; and ``skspectral.int8_error``.

    Raises
    ------
    ImportError
        If onnx or onnxruntime is missing.
    TypeError
        If a parameter has the wrong type.
    ValueError
        If ``forward`` does not run on the example, or ``dynamic`` does not fit the inputs.
    RuntimeError
        If the module cannot be exported, or ONNX Runtime gives other outputs. There is no file
        then.

    Examples
    --------
    >>> import tempfile, torch
    >>> from skspectral import SpectralRNNPruner, export_onnx
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32, batch_first=True)
    >>> pruner = SpectralRNNPruner(gru, m=8).fit(torch.randn(50, 20, 3))
    >>> x, state = torch.randn(2, 5, 3), torch.zeros(1, 2, 8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export_onnx(pruner, (x, state), f"{folder}/small.onnx")
    ...     path.name
    'small.onnx'
    """
    onnx = needed_packages()
    network = network_of(module)
    check_metadata(metadata)
    plain = PlainModule(network, example)
    check_example(plain)
    axes = dynamic_axes(dynamic, plain)
    model, states = exported(plain, axes)
    largest_error(model, plain, {}, TOLERANCE)
    for name, shape in unpaired_states(plain, states):
        warn_user(
            f"The state {name!r} goes in with the shape {tuple(plain.example[name].shape)} and "
            f"comes out with {shape}, and so cannot be fed back; give an example of the latter.",
        )
    if dynamic is True and (fixed := fixed_axes(model, plain, axes)):
        warn_user(
            f"The exported graph is right for one size alone of {', '.join(fixed)}, as that of a "
            "loop over time steps is; give an example of the size that you need.",
        )
        axes = {label: group for label, group in axes.items() if label not in fixed}
        model, states = exported(plain, axes)
    largest_error(model, plain, axes, TOLERANCE)
    notes = described(module, network, states)
    if int8:
        model = quantized(model)
        notes["int8_error"] = largest_error(model, plain, axes, sys.float_info.max)
    entries = {f"skspectral.{key}": json.dumps(value) for key, value in notes.items()}
    onnx.helper.set_model_props(model, {**(metadata or {}), **entries})
    with replacing(path) as beside:
        Path(beside).write_bytes(model.SerializeToString())
    return Path(path)


def needed_packages() -> Any:
    """Return onnx, after making sure that ONNX Runtime is there, too."""
    try:
        import onnx  # noqa: PLC0415  in an extra, as is onnxruntime
        import onnxruntime  # noqa: F401, PLC0415  only to see that it is there
    except ImportError as error:
        raise ImportError(
            'export_onnx needs onnx and onnxruntime: pip install "skspectral[onnx]"'
        ) from error
    return onnx


def check_metadata(metadata: Any) -> None:
    """Raise if metadata are not a dict of str, as ONNX stores them."""
    for key, value in (metadata or {}).items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"metadata must be a dict of str; got {value!r} for {key!r}.")


def check_example(plain: PlainModule) -> None:
    """Raise if the module does not run on the example, or returns no tensor."""
    try:
        outputs = plain.run(plain.example)
    except Exception as error:  # a forward may raise anything
        raise ValueError(
            "example must be inputs that forward runs on in evaluation mode; it raised "
            f"{type(error).__name__}: {error}"
        ) from error
    if not outputs:
        raise ValueError("module must return a tensor; its forward returns none on the example.")


def exported(plain: PlainModule, axes: Axes) -> tuple[Any, dict[str, str]]:
    """Return the ONNX model of a module, and the name of the next value of every state."""
    inputs, outputs = input_shapes(plain, axes), output_shapes(plain, axes)
    names, states = names_of_outputs(inputs, outputs)
    shapes = {**inputs, **dict(zip(names, outputs, strict=True))}
    labels = {
        name: {i: label for i, label in enumerate(shape) if isinstance(label, str)}
        for name, shape in shapes.items()
    }
    with warnings.catch_warnings():
        for category, message in CHATTER:
            warnings.filterwarnings("ignore", message, category)
        try:
            return by_tracing(plain, names, labels), states
        except Exception as error:  # of any type, also of the module's own
            try:
                return by_export(plain, names, labels), states
            except Exception:  # of any type; the first says more
                raise RuntimeError(
                    f"torch cannot export {type(plain.module).__name__} to ONNX: {error}"
                ) from error


def by_tracing(plain: PlainModule, names: list[str], labels: dict[str, dict[int, str]]) -> Any:
    """Return the ONNX model by the exporter of TorchScript.

    It comes first, since the newer one turns the number of time steps into a constant in many
    layers.
    """
    import onnx  # noqa: PLC0415  in an extra

    with TemporaryDirectory() as folder:
        file = Path(folder, "module.onnx")
        torch.onnx.export(
            plain.eval(),
            tuple(plain.example.values()),
            file,
            dynamo=False,
            input_names=list(plain.example),
            output_names=names,
            dynamic_axes=labels,
        )
        return onnx.load(file)


def by_export(plain: PlainModule, names: list[str], labels: dict[str, dict[int, str]]) -> Any:
    """Return the ONNX model by the newer exporter, which knows more functions of torch."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    dynamic = torch.export.Dim.DYNAMIC
    try:
        program: Any = torch.onnx.export(
            plain.eval(),
            tuple(plain.example.values()),
            dynamo=True,
            verbose=False,
            input_names=list(plain.example),
            output_names=names,
            dynamic_shapes=(tuple(dict.fromkeys(labels[name], dynamic) for name in plain.example),),
        )
    finally:
        logger.setLevel(level)
    return program.model_proto


def names_of_outputs(
    inputs: Mapping[str, Shape], outputs: list[Shape]
) -> tuple[list[str], dict[str, str]]:
    """Return the names of the outputs, and for each state that goes in, that of its next value.

    States and their next values are expected in the same order, after the other outputs.
    """
    names = ["output", *(f"output_{i}" for i in range(1, len(outputs)))]
    states = {}
    end = len(outputs)
    for name, shape in list(inputs.items())[:0:-1]:
        places = [i for i in range(end) if outputs[i] == shape]
        if places:
            end = places[-1]
            states[name] = names[end] = f"next_{name}"
    return names, dict(reversed(states.items()))


def unpaired_states(
    plain: PlainModule, states: Mapping[str, str]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield states that go in at the old size and come out at the new one, with their new shape."""
    kept: dict[int, int] = {}
    for part in plain.modules():
        if isinstance(part, InitialStateWrapper):
            kept |= dict.fromkeys(part.sizes, max(part.n_kept))
    outputs = [tuple(each.shape) for each in plain.run(plain.example)]
    for name, given in plain.example.items():
        *rest, size = given.shape or (0,)
        if name not in states and (*rest, kept.get(size)) in outputs:
            yield name, (*rest, kept[size])


def fixed_axes(model: Any, plain: PlainModule, axes: Axes) -> list[str]:
    """Return the axes along which ONNX Runtime gives other outputs than torch in other sizes."""
    fixed = []
    for label, group in axes.items():
        try:
            largest_error(model, plain, {label: group}, TOLERANCE)
        except RuntimeError:
            fixed.append(label)
    return fixed


def largest_error(model: Any, plain: PlainModule, axes: Axes, limit: float) -> float:
    """Return the largest relative difference between the outputs of ONNX Runtime and of torch.

    Raises
    ------
    RuntimeError
        If it is above a limit, or if ONNX Runtime does not run the model.
    """
    worst = 0.0
    for inputs, found in runs(model, trials(plain.example, axes)):
        for (name, one), other in zip(found.items(), plain.run(inputs), strict=True):
            error = relative_error(one, other.numpy())
            if error > limit:
                sizes = ", ".join(f"{key} {tuple(each.shape)}" for key, each in inputs.items())
                raise RuntimeError(
                    f"The output {name!r} of the exported module differs from that of torch by "
                    f"{error:.2g} of its largest value, with inputs {sizes}; at most {limit:.0e} "
                    "is allowed. Give dynamic=False if the example alone is right, or change what "
                    "forward does with sizes."
                )
            worst = max(worst, error)
    return worst


def runs(model: Any, trials: Iterable[Inputs]) -> Iterator[tuple[Inputs, dict[str, NDArray[Any]]]]:
    """Yield inputs, and the outputs of ONNX Runtime by name."""
    import onnxruntime  # noqa: PLC0415  in an extra

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, and need not be printed
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [each.name for each in session.get_outputs()]
        for inputs in trials:
            given = {each.name: inputs[each.name].numpy() for each in session.get_inputs()}
            yield inputs, dict(zip(names, session.run(None, given), strict=True))
    except Exception as error:  # those of onnxruntime have no type in common
        raise RuntimeError(f"onnxruntime cannot run the exported module: {error}") from error


def trials(example: Inputs, axes: Axes) -> Iterator[Inputs]:
    """Yield the example, then other sizes of every axis, then larger sizes of all axes."""
    yield example
    larger = example
    for group in axes.values():
        yield from other_sizes(example, group)
        larger = next(iter(other_sizes(larger, group)))
    if len(axes) > 1:
        yield larger


def relative_error(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the largest difference, relative to the largest number unless all are zero.

    It is infinite if the shapes differ, or the places of what is not finite.
    """
    if found.shape != wanted.shape:
        return np.inf
    one, other = (np.asarray(each, np.float64) for each in (found, wanted))
    finite = np.isfinite(other)
    if not (np.isfinite(one) == finite).all():
        return np.inf
    error = np.abs(one - other)[finite].max(initial=0.0)
    return float(error / (np.abs(other[finite]).max(initial=0.0) or 1.0))


def described(module: Any, network: nn.Module, states: dict[str, str]) -> dict[str, Any]:
    """Return what the metadata say of a module, or of a pruner and its module."""
    found: dict[str, Any] = {
        "version": skspectral.__version__,
        "n_parameters": sum(each.numel() for each in network.parameters()),
        "states": states,
    }
    if module is not network:
        layers = module.layers_
        found["kept"] = {name: layer.support.tolist() for name, layer in layers.items()}
        found["n_nodes"] = {name: len(layer.ranking) for name, layer in layers.items()}
    return found


def quantized(model: Any) -> Any:
    """Return the model with weights in eight bits."""
    import onnx  # noqa: PLC0415  in an extra
    from onnxruntime.quantization import quantize_dynamic  # noqa: PLC0415  in an extra
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415  same

    with TemporaryDirectory() as folder:
        inferred, small = Path(folder, "inferred.onnx"), Path(folder, "small.onnx")
        quant_pre_process(model, inferred, skip_optimization=True, skip_symbolic_shape=True)
        quantize_dynamic(inferred, small)
        found = onnx.load(small)
    floats = sorted({each.op_type for each in found.graph.node} & {"GRU", "LSTM", "RNN"})
    if floats:
        warn_user(
            f"int8=True leaves {', '.join(floats)} in float32, since onnxruntime cannot quantize "
            "it; only an LSTM and linear layers are stored in eight bits.",
        )
    return found
