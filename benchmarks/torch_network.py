"""The multilayer perceptron in PyTorch, with the weights of ours. Can be imported only where torch is."""

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from worldmodels.networks import MLP


def torch_network(mlp: MLP) -> torch.nn.Sequential:
    """`mlp` as a torch module with the same weights, in float32."""
    modules: list[torch.nn.Module] = []
    for layer, norm in zip(mlp.layers, mlp.norms, strict=True):
        normalise = torch.nn.LayerNorm(norm.num_features, eps=norm.epsilon)
        _copy(normalise, norm.scale[...], norm.bias[...])  # type: ignore[index]
        modules += [_linear(layer), normalise, torch.nn.SiLU()]
    return torch.nn.Sequential(*modules, _linear(mlp.output))


def _linear(layer) -> torch.nn.Linear:
    made = torch.nn.Linear(layer.in_features, layer.out_features)
    _copy(made, layer.kernel[...].T, layer.bias[...])
    return made


def _copy(module, weight, bias) -> None:
    with torch.no_grad():
        module.weight.copy_(torch.tensor(np.asarray(weight)))
        module.bias.copy_(torch.tensor(np.asarray(bias)))
