"""What is exported acts as what it was exported from, and refuses what it cannot be."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

import mpc
import planners
import worldmodels
from mpc.errors import ExportError
from mpc.export import export, load_export
from mpc.policy import Policy, SquashedGaussian
from tests import tiny
from tests.test_agent import agent as planning_agent
from tests.test_cli import run
from worldmodels import CheckpointError, SpecError


def policy_agent(spec=tiny.SPEC, kind=worldmodels.JEPA):
    """Untrained, but with a normaliser and weights large enough for the action to depend on what is seen."""
    model = kind(spec, latent=6, hidden=8, head=4, expander=4)
    model.normaliser.fit(np.random.default_rng(0).normal([3.0, -1.0], [2.0, 0.1], size=(50, 2)))
    policy = Policy(6, spec, hidden=8, seed=2)
    policy.network.output.kernel[...] = policy.network.output.kernel[...] * 30
    return mpc.PolicyAgent(model, policy)


def seen(count=20):
    random = np.random.default_rng(1)
    return [tiny.observation(*random.normal([3.0, -1.0], [2.0, 0.1])) for _ in range(count)]


def acts(agent, observation):
    return np.asarray(agent.act(agent.reset(observation), observation, key=jax.random.key(0))[0].action)


@pytest.mark.parametrize("spec", [tiny.SPEC, tiny.DISCRETE], ids=["continuous", "discrete"])
def test_a_policy_in_onnx_runtime_acts_as_in_jax(spec, tmp_path):
    agent = policy_agent(spec)
    export(agent, tmp_path / "out")
    loaded = load_export(tmp_path / "out")
    assert loaded.spec == spec
    wanted = np.stack([acts(agent, observation) for observation in seen()])
    given = np.stack([loaded.programs["act"](observation) for observation in seen()])
    assert given.dtype == wanted.dtype and len(np.unique(wanted)) > 1
    np.testing.assert_allclose(given, wanted, atol=1e-5)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "policy.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["spec"]) == json.loads(json.dumps(spec.to_json()))
    batch = {name: np.stack([observation[name] for observation in seen()]) for name in spec.names}
    np.testing.assert_allclose(session.run(None, batch)[0], wanted, atol=1e-5)


def test_a_policy_in_stablehlo_acts_as_in_jax(tmp_path):
    agent = policy_agent()
    export(agent, tmp_path / "out", "stablehlo")
    program = load_export(tmp_path / "out").programs["act"]
    for observation in seen(5):
        np.testing.assert_allclose(program(observation), acts(agent, observation), atol=1e-6)


def test_a_whole_planner_in_stablehlo_plans_as_in_jax(tmp_path):
    agent = planning_agent(0.5, planner=planners.CEM(horizon=4, samples=16, iterations=2, elites=4))
    export(agent, tmp_path / "out", "stablehlo")
    programs = load_export(tmp_path / "out").programs
    observation = tiny.observation(1.0, 0.0)
    state, exported = agent.reset(observation), programs["reset"](observation)
    for decision in range(3):
        key = jnp.array([7, decision], jnp.uint32)
        made, state = agent.act(state, observation, key=jax.random.wrap_key_data(key))
        action, exported = programs["act"](exported, observation, np.float32(1), key)
        np.testing.assert_allclose(action, made.action, atol=1e-5)
        observation = tiny.observation(*tiny.step(observation["position"][0], observation["velocity"][0], float(action[0])))


class Other(worldmodels.JEPA):
    """A model whose representation is not what its encoder says."""

    def start(self, observation):
        return jnp.tanh(super().start(observation))


class Remembering(worldmodels.JEPA):
    """A model whose latent depends on what was before."""

    def observe(self, latent, previous_action, observation):
        return 0.5 * latent + 0.5 * self.start(observation)


@pytest.mark.parametrize(("kind", "named"), [(Other, "does not write"), (Remembering, "remembers")])
def test_a_model_that_onnx_would_get_wrong_is_refused(kind, named, tmp_path):
    with pytest.raises(ExportError, match=named):
        export(policy_agent(kind=kind), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_or_was_tampered_with_is_refused(tmp_path):
    with pytest.raises(ExportError, match="distil"):
        export(planning_agent(), tmp_path / "out")
    with pytest.raises(ExportError, match="onnx or stablehlo"):
        export(policy_agent(), tmp_path / "out", "tflite")  # type: ignore[arg-type]
    worldmodels.save(policy_agent().model, tmp_path / "model")
    with pytest.raises(CheckpointError, match="expected an export"):
        load_export(tmp_path / "model")
    with pytest.raises(CheckpointError, match="holds a model"):
        export(policy_agent(), tmp_path / "model", "stablehlo")
    export(policy_agent(), tmp_path / "out", "stablehlo")
    path = tmp_path / "out" / "act.stablehlo"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ExportError, match=r"act.stablehlo is damaged"):
        load_export(tmp_path / "out")


@pytest.mark.parametrize("format", ["onnx", "stablehlo"])
def test_an_exported_policy_refuses_what_is_no_observation_and_takes_lists(format, tmp_path):
    agent, good = policy_agent(), tiny.observation(2.0, -1.0)
    export(agent, tmp_path / "out", format)
    act = load_export(tmp_path / "out").programs["act"]
    np.testing.assert_allclose(act({name: value.tolist() for name, value in good.items()}), acts(agent, good), atol=1e-5)
    for wrong in (
        None,
        {"position": np.zeros(1)},
        good | {"more": 1},
        good | {"position": [0, 0]},
        good | {"position": [np.nan]},
    ):
        with pytest.raises(SpecError, match="observation"):
            act(wrong)


def test_observations_may_be_named_as_the_nodes_of_a_graph_but_not_as_its_output(tmp_path):
    random = np.random.default_rng(0).normal(size=(50, 2))
    for names, refused in ((("concat_2", "flatten_0"), False), (("action_1", "min_31"), False), (("action", "b"), True)):
        spec = replace(tiny.SPEC, observation=tuple((name, (1,)) for name in names))
        agent = policy_agent(spec)
        if refused:
            with pytest.raises(ExportError, match="named 'action'"):
                export(agent, tmp_path / "out")
            continue
        export(agent, tmp_path / "out")
        seen = {name: random[0, i : i + 1].astype(np.float32) for i, name in enumerate(names)}
        np.testing.assert_allclose(load_export(tmp_path / "out").programs["act"](seen), acts(agent, seen), atol=1e-5)


class Still:
    """A policy that is no network."""

    def __call__(self, features):
        return SquashedGaussian(jnp.zeros(1), jnp.ones(1))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: mpc.MixedAgent(planning_agent(policy=Policy(2, tiny.SPEC, hidden=4), critic=object())), "agent=MixedAgent"),
        (lambda: policy_agent().model, "agent=JEPA"),
        (lambda: "agent", "agent=str"),
        (lambda: mpc.PolicyAgent(policy_agent().model, Still()), "Still is not one MLP"),
    ],
)
def test_who_is_neither_a_policy_nor_a_planner_is_refused(make, named, tmp_path):
    with pytest.raises(ExportError, match=named):
        export(make(), tmp_path / "out")


def test_the_command_exports_a_policy(monkeypatch, tmp_path):
    mpc.save_policy(policy_agent(), tmp_path / "policy")
    arguments = ["export", str(tmp_path / "policy"), "--out", str(tmp_path / "out"), "--format", "stablehlo"]
    assert run(*arguments, monkeypatch=monkeypatch) == 0
    observation = seen(1)[0]
    given = load_export(tmp_path / "out").programs["act"](observation)
    np.testing.assert_allclose(given, acts(policy_agent(), observation), atol=1e-6)


@pytest.mark.slow
def test_a_policy_and_a_planner_in_iree_act_as_in_jax(tmp_path):
    pytest.importorskip("iree.compiler")
    agent = policy_agent()
    export(agent, tmp_path / "policy", "stablehlo")
    act = mpc.iree_programs(tmp_path / "policy")["act"]
    for observation in seen(5):
        np.testing.assert_allclose(act(observation), acts(agent, observation), atol=1e-5)
    planner = planning_agent(0.5, planner=planners.Gradient(horizon=3, starts=2, iterations=2))
    export(planner, tmp_path / "planner", "stablehlo")
    programs = mpc.iree_programs(tmp_path / "planner")
    observation = tiny.observation(1.0, 0.0)
    state, exported = planner.reset(observation), programs["reset"](observation)
    for decision in range(3):
        key = np.array([7, decision], np.uint32)
        made, state = planner.act(state, observation, key=jax.random.wrap_key_data(jnp.asarray(key)))
        action, exported = programs["act"](exported, observation, np.float32(1), key)
        np.testing.assert_allclose(action, made.action, atol=1e-5)
    with pytest.raises(ExportError, match="arguments of structure"):
        act({"position": np.zeros(1)})
