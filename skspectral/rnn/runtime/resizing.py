"""Change the size of layers whose class or hooks should stay."""

from torch import nn


def resize(layer: nn.Module, plain: nn.Module) -> None:
    """Give a layer the sizes and weights of a layer of torch; its class and hooks stay."""
    layer._parameters.update(plain._parameters)
    for name in vars(plain).keys() - vars(nn.Module()).keys():
        vars(layer)[name] = vars(plain)[name]
