"""Polarizability of small molecules (Liu et al. 2023, Omnigrok, Fig. 5)."""

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.rng import Keys, choose_rows
from grok_jax.settings import Count, Natural, SettingError
from grok_jax.types import Dataset, Split


def qm9(
    keys: Keys,
    *,
    files: dict[str, Array],
    folder: str = "",
    molecules: Count = 3000,
    atoms: Count = 29,
    train_size: Count = 100,
    test_size: Natural = 0,
) -> Dataset:
    """x [n, A, 11 + 4 A], A = `atoms`: one row per atom, hydrogens too, with its 11
    features (one-hot of H, C, N, O, F; atomic number; aromatic; sp, sp2, sp3; number of
    H) and its rows of the adjacency matrices of single, double, triple and aromatic
    bonds; rows of padding are zero. y [n] is the isotropic polarizability in bohr^3,
    not normalised, as in the paper's code.

    `files` is what `files.qm9` has read. The paper's code halves the first molecules of
    the set: `molecules` = 2 `train_size`. A larger train set begins with the smaller
    one of the same seed, and so does a test set.

    Args:
      folder: where the files are; "" for the usual places (see `tasks.files`).
      molecules: the first so many are what train and test draw from.
      atoms: at least those of the largest of them; 29 for all of QM9.
      test_size: 0 for all molecules that are not for training.
    """
    del folder, molecules  # read by files.qm9
    files = jax.tree.map(jnp.asarray, files)
    count, largest, _ = files["nodes"].shape
    train, test = choose_rows(keys.data, count, train_size, test_size, "molecules")
    if largest > atoms:
        raise SettingError(
            f"task.atoms is {atoms}; the molecules have up to {largest} atoms."
        )
    padding = (0, atoms - largest)

    def split(rows: Array) -> Split:
        nodes = jnp.pad(files["nodes"][rows], ((0, 0), padding, (0, 0)))
        bonds = jnp.pad(files["bonds"][rows], ((0, 0), padding, padding))
        kinds = jnp.arange(1, 5, dtype=bonds.dtype)[None, None, :, None]
        edges = (bonds[:, :, None, :] == kinds).reshape(len(rows), atoms, 4 * atoms)
        x = jnp.concatenate([nodes.astype(float), edges.astype(float)], axis=2)
        y = files["polarizability"][rows].astype(float)
        return Split(x, y, jnp.ones(len(rows)))

    return Dataset(split(train), split(test), {})


def one_output() -> dict[str, int]:
    """The sizes of `qm9`'s data (`types.Task`): one number for each molecule."""
    return {}
