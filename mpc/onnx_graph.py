"""A policy as an ONNX graph, node by node: normalise, perceive, decide, denormalise. Needs the `export` extra.

Opset 17, the first with LayerNormalization; one input for each observed quantity and one output, all with a leading batch axis.
"""

import json
from typing import Any

import numpy as np

from mpc.errors import ExportError
from worldmodels.networks import MLP
from worldmodels.spec import DiscreteAction

OPSET, IR = 17, 9  # what ONNX Runtime 1.16 and later read
LAYER_NORM_EPSILON = 1e-6  # flax's


class Graph:
    """Nodes and weights, added in the order of computation."""

    def __init__(self, helper: Any, numpy_helper: Any):
        self.helper, self.numpy_helper = helper, numpy_helper
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, operation: str, *inputs: str | np.ndarray, output: str | None = None, **attributes: Any) -> str:
        """One node; arrays become weights. Returns the name of its output."""
        own = f"/sailplan/{operation.lower()}_{len(self.nodes)}"  # the name of no observed quantity
        output = output or own
        names = [self._weight(value, f"{own}_{index}") for index, value in enumerate(inputs)]
        self.nodes.append(self.helper.make_node(operation, names, [output], **attributes))
        return output

    def mlp(self, x: str, network: MLP) -> str:
        """`worldmodels.networks.MLP`: Linear, LayerNorm, SiLU for each hidden width, then a linear output."""
        for layer, norm in zip(network.layers, network.norms, strict=True):
            x = self._linear(x, layer)
            x = self.add("LayerNormalization", x, _array(norm.scale), _array(norm.bias), axis=-1, epsilon=LAYER_NORM_EPSILON)
            x = self.add("Mul", x, self.add("Sigmoid", x))
        return self._linear(x, network.output)

    def _linear(self, x: str, layer: Any) -> str:
        return self.add("Gemm", x, _array(layer.kernel), _array(layer.bias))

    def _weight(self, value: str | np.ndarray, name: str) -> str:
        if isinstance(value, str):
            return value
        self.weights.append(self.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def policy_graph(agent: Any, metadata: dict[str, str]) -> bytes:
    """The ONNX file of a `PolicyAgent` over a state encoder: its most likely action, inside the action space.

    Raises `ExportError` where the `export` extra is missing, or where perception is more than one MLP.
    """
    try:
        import onnx  # noqa: PLC0415
        from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415
    except ImportError as error:
        raise ExportError("ONNX needs the export extra: pip install -c constraints.txt 'sailplan[export]'.") from error
    model, spec = agent.model, agent.model.spec
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, MLP) or encoder.layers[0].kernel.shape[0] != spec.size:
        raise ExportError(
            f"{type(model).__name__} does not perceive {spec.names} by one MLP: ONNX export cannot write it. Use --format stablehlo."
        )
    if not isinstance(getattr(agent.policy, "network", None), MLP):
        raise ExportError(f"{type(agent.policy).__name__} is not one MLP: ONNX export cannot write it. Use --format stablehlo.")
    if "action" in spec.names:
        raise ExportError(
            "the environment shows something named 'action', as the graph's output is. Rename it, or use --format stablehlo."
        )
    graph = Graph(helper, numpy_helper)
    flat = graph.add("Concat", *(graph.add("Flatten", name, axis=1) for name in spec.names), axis=1)
    centred = graph.add("Sub", flat, _array(model.normaliser.mean))
    latent = graph.mlp(graph.add("Div", centred, _array(model.normaliser.scale)), encoder)
    _decide(graph, graph.mlp(latent, agent.policy.network), spec)
    discrete = isinstance(spec.action, DiscreteAction)
    made = helper.make_graph(
        graph.nodes,
        "policy",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in spec.observation],
        [
            helper.make_tensor_value_info(
                "action", TensorProto.INT32 if discrete else TensorProto.FLOAT, ["batch", *spec.action.shape]
            )
        ],
        graph.weights,
    )
    file = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="sailplan")
    helper.set_model_props(file, {"spec": json.dumps(spec.to_json()), **metadata})
    onnx.checker.check_model(file, full_check=True)
    return file.SerializeToString()


def _decide(graph: Graph, output: str, spec: Any) -> None:
    """From the network's output to the action that is sent."""
    if isinstance(spec.action, DiscreteAction):
        best = graph.add("ArgMax", output, axis=-1, keepdims=0)
        graph.add("Cast", best, output="action", to=6)  # int32
        return
    low, high = np.asarray(spec.action.low, np.float32), np.asarray(spec.action.high, np.float32)
    mean = graph.add("Slice", output, np.array([0]), np.array([spec.action.shape[0]]), np.array([1]))
    share = graph.add("Div", graph.add("Add", graph.add("Tanh", mean), np.ones(1, np.float32)), np.full(1, 2, np.float32))
    action = graph.add("Add", graph.add("Mul", share, high - low), low)
    graph.add("Min", graph.add("Max", action, low), high, output="action")


def _array(variable: Any) -> np.ndarray:
    return np.asarray(variable[...], np.float32)
