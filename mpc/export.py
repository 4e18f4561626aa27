"""Policies and whole planners in files that run without this package: ONNX for policies, StableHLO for either.

FOLDER/manifest.json         kind "export", spec with units and limits, versions, a checksum per file
FOLDER/policy.onnx           inputs by the observation's names, output `action`; normalisation inside
FOLDER/act.stablehlo         `jax.export`'s serialised program; reset.stablehlo too for an agent that plans
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from mpc.agent import PlanningAgent
from mpc.costs import no_action
from mpc.errors import ExportError
from mpc.onnx_graph import policy_graph
from mpc.policy import PolicyAgent
from worldmodels import manifest
from worldmodels.files import located
from worldmodels.spec import DiscreteAction, Spec

Format = Literal["onnx", "stablehlo"]
TOLERANCE = 1e-5  # of half the action's range


class Exported(NamedTuple):
    """What an export does, as functions of numpy arrays.

    A policy has `act(observation) -> action`. A planner has `reset(observation) -> state` and
    `act(state, observation, elapsed, key) -> (action, state)`, where `state` is a list of arrays and `key` two uint32 that
    no other decision has used, such as (seed, decision). What is no observation of `spec` is refused by a `SpecError`.
    """

    spec: Spec
    programs: dict[str, Callable[..., Any]]


def export(agent: PolicyAgent | PlanningAgent, folder: str | Path, format: Format = "onnx") -> None:
    """Write `agent` to `folder` in one step; an older export there is replaced.

    Raises `ExportError` for what the format cannot hold, or a file that does not act as the agent does.
    """
    if not isinstance(agent, PolicyAgent | PlanningAgent):
        raise ExportError(
            f"agent={type(agent).__name__}: expected an mpc.PolicyAgent or an mpc.PlanningAgent, such as a MixedAgent's `planning`."
        )
    manifest.check_replaceable(folder, "export")
    plans = isinstance(agent, PlanningAgent)
    if format == "onnx":
        if plans:
            raise ExportError("ONNX holds policies: a planner needs --format stablehlo, or distil it first (sailplan distil).")
        _refuse_memory(agent.model)
        files = {"policy.onnx": policy_graph(agent, {"sailplan": manifest.package_versions().get("sailplan", "source")})}
        _check_parity(agent, files["policy.onnx"])
    elif format == "stablehlo":
        files = {f"{name}.stablehlo": program for name, program in (_planner(agent) if plans else _policy(agent)).items()}
    else:
        raise ExportError(f"format={format!r}: expected onnx or stablehlo.")
    with manifest.replacing(folder, "export") as new:
        for name, content in files.items():
            (new / name).write_bytes(content)
        settings = {"format": format, "of": "planner" if plans else "policy"}
        manifest.write(new, "export", settings=settings, checksums=manifest.checksums(new), spec=agent.model.spec.to_json())


def load_export(folder: str | Path) -> Exported:
    """What `export` wrote. `CheckpointError` for another kind or version, `ExportError` for damage or a missing extra."""
    content = manifest.read(folder, "export")
    wrong = manifest.verify(folder, content)
    if wrong:
        files = ", ".join(f"{name} is {what}" for name, what in wrong.items())
        raise ExportError(f"{folder}: {files}. The export was changed or only half copied. Export it again.")
    root = located(folder)
    if content.settings["format"] == "onnx":
        act = _onnx_program((root / "policy.onnx").read_bytes())
        return Exported(content.spec, {"act": _at_border(act, content.spec)})
    try:
        read = {path.stem: jax_export.deserialize(bytearray(path.read_bytes())) for path in root.glob("*.stablehlo")}
    except ValueError as error:
        raise ExportError(
            f"{folder}: this jax cannot read it ({error}). Export it again with jax {jax.__version__}."
        ) from error
    plans = content.settings["of"] == "planner"
    return Exported(
        content.spec,
        {
            name: _at_border(jax.jit(program.call), content.spec, place=int(plans and name == "act"))
            for name, program in read.items()
        },
    )


def _at_border(program: Callable[..., Any], spec: Spec, place: int = 0) -> Callable[..., Any]:
    """`program` with its argument at `place` checked to be an observation, and of the spec's dtypes."""

    def call(*arguments: Any) -> Any:
        given: Any = arguments[place] if place < len(arguments) else None
        spec.check_observation(given)
        cast = {name: np.asarray(given[name], spec.dtype(name)) for name in spec.names}
        return program(*arguments[:place], cast, *arguments[place + 1 :])

    return call


def _serialised(function: Callable[..., Any], *arguments: Any) -> bytes:
    return bytes(jax_export.export(jax.jit(function))(*arguments).serialize())


def _policy(agent: PolicyAgent) -> dict[str, bytes]:
    model, policy = agent.model, agent.policy
    _refuse_memory(model)

    def act(observation):
        return limited(model.spec.action.denormalise(policy(model.features(model.start(observation))).mean), model.spec)

    return {"act": _serialised(act, model.spec.blank)}


def _planner(agent: PlanningAgent) -> dict[str, bytes]:
    """`AgentState` holds classes that another program does not know: its arrays travel as a list."""
    seen = agent.model.spec.blank
    structure = jax.tree.structure(jax.eval_shape(agent.reset, seen))

    def reset(observation):
        return jax.tree.leaves(agent.reset(observation))

    def act(state, observation, elapsed, key):
        made, state = agent.act(
            jax.tree.unflatten(structure, state), observation, elapsed=elapsed, key=jax.random.wrap_key_data(key)
        )
        return limited(made.action, agent.model.spec), jax.tree.leaves(state)

    state = jax.eval_shape(reset, seen)
    elapsed, key = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.uint32)
    return {"reset": _serialised(reset, seen), "act": _serialised(act, state, seen, elapsed, key)}


def limited(action: Any, spec: Spec) -> Any:
    """The action inside its box exactly, where denormalising rounds out of it."""
    return action if isinstance(spec.action, DiscreteAction) else jnp.clip(action, *spec.action.within)


def _refuse_memory(model: Any) -> None:
    """A policy's file has no state: what a model would remember must be nothing but what it sees now."""
    spec = model.spec
    random = np.random.default_rng(0)
    before, now = ({name: random.normal(size=shape).astype(np.float32) for name, shape in spec.observation} for _ in range(2))
    later = model.features(model.observe(model.start(before), no_action(model), now))
    if not np.allclose(later, model.features(model.start(now)), atol=1e-6):
        raise ExportError(
            f"{type(model).__name__} remembers what it saw before, which a policy's file cannot. Export the planner as stablehlo."
        )


def _check_parity(agent: PolicyAgent, file: bytes) -> None:
    """Raise unless the ONNX file acts as the agent does, on observations twice as wide as those it was trained on."""
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415  (policy_graph has said so if it is missing)

    spec, random = agent.model.spec, np.random.default_rng(0)
    normaliser = agent.model.normaliser
    flat = normaliser.inverse(2 * random.normal(size=(32, spec.size)).astype(np.float32))
    batch = {name: np.asarray(value) for name, value in spec.unflatten(flat).items()}
    (given,) = ReferenceEvaluator(file).run(None, batch)
    wanted = jax.vmap(lambda seen: agent.policy(agent.model.features(agent.model.start(seen))).mean)(batch)
    error = np.abs(spec.action.normalise(given) - np.asarray(wanted)).max()
    if not error <= TOLERANCE:
        raise ExportError(
            f"the ONNX graph of {type(agent.model).__name__} acts up to {error:.1e} of half the range from the policy: it has parts "
            "that ONNX export does not write. Use --format stablehlo."
        )


def iree_programs(folder: str | Path) -> dict[str, Callable[..., Any]]:
    """The programs of a StableHLO export compiled by IREE for this machine's CPU, functions of numpy arrays that need no JAX.

    `ExportError` where the `export` extra is missing.
    """
    try:
        from iree import compiler, runtime  # noqa: PLC0415
    except ImportError as error:
        raise ExportError("IREE is missing: pip install -c constraints.txt 'sailplan[export]'.") from error
    load_export(folder)  # refuses what is damaged
    return {path.stem: _iree_program(path, compiler, runtime) for path in sorted(located(folder).glob("*.stablehlo"))}


def _iree_program(path: Path, compiler: Any, runtime: Any) -> Callable[..., Any]:
    exported = jax_export.deserialize(bytearray(path.read_bytes()))
    binary = compiler.compile_str(
        exported.mlir_module(),
        target_backends=["llvm-cpu"],
        input_type="stablehlo",
        extra_args=["--iree-llvmcpu-target-cpu=host"],
    )
    module = runtime.load_vm_flatbuffer(binary, driver="local-sync")

    def call(*arguments: Any) -> Any:
        given, structure = jax.tree.flatten((arguments, {}))
        if structure != exported.in_tree:
            raise ExportError(f"{path.name}: arguments of structure {structure}, expected {exported.in_tree}.")
        arrays = [np.asarray(x, aval.dtype) for x, aval in zip(given, exported.in_avals, strict=True)]
        kept = [arrays[index] for index in exported.module_kept_var_idx]
        found = module.main(*kept)
        found = [x.to_host() for x in (found if isinstance(found, list | tuple) else [found])]
        return jax.tree.unflatten(exported.out_tree, found)

    return call


def _onnx_program(file: bytes) -> Callable[[dict[str, Any]], np.ndarray]:
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:
        raise ExportError("ONNX Runtime is missing: pip install -c constraints.txt 'sailplan[export]'.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a policy is too small to share
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def act(observation: dict[str, Any]) -> np.ndarray:
        batch = {name: value[None] for name, value in observation.items()}
        return np.asarray(session.run(None, batch)[0])[0]

    return act
