"""Weights on disk: any pytree of arrays, by orbax, in a folder whose manifest holds all it takes to load it.

FOLDER/manifest.json    kind, settings, spec, versions, a checksum per file, name and shape of every array
FOLDER/weights/         the arrays by name (orbax, no pickles)
"""

import glob
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from worldmodels import manifest
from worldmodels.errors import CheckpointError, SpecError
from worldmodels.files import located
from worldmodels.manifest import Manifest
from worldmodels.spec import Spec

WEIGHTS = "weights"


def digest(tree: PyTree) -> str:
    """sha256 of all arrays in `tree`, in their order: models of one make have one digest if their weights are the same."""
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()


def save(folder: str | Path, kind: str, tree: PyTree, *, settings: Any, spec: Spec, **extra: Any) -> None:
    """Save the arrays of `tree`, an nnx module for instance, in one step: an older `kind` in `folder` is replaced at the end.

    Args:
      kind: model, policy or agent.
      settings: a mapping or dataclass, enough to build the tree again together with `spec`.
      extra: further fields of the manifest.

    Raises `CheckpointError` where `folder` holds something else, or while another process saves there.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in _named_leaves(tree).items()}
    described = {name: _described(array) for name, array in arrays.items()}
    with manifest.replacing(folder, kind) as new, ocp.PyTreeCheckpointer() as checkpointer:
        # Orbax refuses arrays without elements; their shape says all about them.
        filled = {name: array for name, array in arrays.items() if array.size}
        try:
            if glob.has_magic(str(new.resolve())):  # orbax gathers what it wrote by a pattern made of its path
                with tempfile.TemporaryDirectory() as plain:
                    checkpointer.save(Path(plain) / WEIGHTS, filled)
                    shutil.copytree(Path(plain) / WEIGHTS, new / WEIGHTS)
            else:
                checkpointer.save(new / WEIGHTS, filled)
        except ValueError as error:  # what its writer makes of a full disk
            raise OSError(f"{folder}: the weights could not be written ({str(error)[:200]})") from error
        fields = {"spec": spec.to_json(), "arrays": described, **extra}
        manifest.write(new, kind, settings=settings, checksums=manifest.checksums(new), **fields)


def restore(folder: str | Path, kind: str, build: Callable[[Manifest], PyTree]) -> PyTree:
    """The tree saved in `folder`, bit for bit.

    Args:
      build: makes a tree of the same structure from the manifest's settings and spec; it is only traced, never run.

    Raises `CheckpointError` for what `manifest.read` raises on, for damaged or missing files, and for arrays that do not fit;
    `SpecError` for a spec that cannot be.
    """
    content = manifest.read(folder, kind)
    wrong = manifest.verify(folder, content)
    if wrong:
        files = ", ".join(f"{name} is {what}" for name, what in wrong.items())
        raise CheckpointError(f"{folder}: {files}. The {kind} was changed or only half copied. Copy it again.")
    try:
        _ = content.spec
    except SpecError as error:
        raise SpecError(f"{folder}: {error}") from error
    try:
        template = jax.eval_shape(lambda: build(content))
    except (TypeError, KeyError, SpecError, CheckpointError) as error:
        raise CheckpointError(
            f"{folder}: its settings {content.settings} build no {kind} in this version ({error})."
        ) from error
    leaves = _named_leaves(template)
    _check_arrays(folder, content.extra.get("arrays"), {name: _described(leaf) for name, leaf in leaves.items()})
    stored = {name: leaf for name, leaf in leaves.items() if leaf.size}
    with ocp.PyTreeCheckpointer() as checkpointer:
        arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in stored}
        arrays = checkpointer.restore(located(folder).resolve() / WEIGHTS, item=stored, restore_args=arguments)
    values = [jnp.asarray(arrays[name]) if leaf.size else jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(template), values)


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    """Leaf by path, such as `encoder/layers/0/kernel`; flax's own `value` at the end says nothing and is left out."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value"): leaf for path, leaf in paths}


def _described(array: Any) -> str:
    return f"{array.dtype}[{','.join(str(size) for size in array.shape)}]"


def _check_arrays(folder: str | Path, found: Any, expected: dict[str, str]) -> None:
    if found == expected:
        return
    found = found if isinstance(found, dict) else {}
    names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    shown = ", ".join(f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'none')}" for name in names[:3])
    raise CheckpointError(
        f"{folder}: {len(names)} arrays do not fit the model that its settings describe: {shown}. "
        "Was it saved by another version of this model's code?"
    )
