"""The PyTorch side of the live parity tests: freshly randomised models, saved by their own library.

Importing this skips the importing test module where PyTorch, diffusers or transformers is missing.
`IMAGIC_PARITY_SEED` picks other weights and inputs.
"""

import os
import warnings

import jax
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what these libraries deprecate is not ours to mend
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")

SEED = int(os.environ.get("IMAGIC_PARITY_SEED", "20"))
QUICK = {"xla_backend_optimization_level": 0}  # compiles in half the time
TOLERANCE = {np.float32: 2e-5, np.float64: 5e-7}
MARKS = (
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
)

torch.set_num_threads(2)
diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def randomised(model):
    """The model in evaluation mode with every parameter drawn anew, norms and biases too."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:  # keeps the size of activations
                drawn *= (parameter[0].numel()) ** -0.5
            else:
                drawn = 0.3 * drawn + (1.0 if name.endswith("weight") else 0.0)
            parameter.copy_(drawn)
    return model.eval()


def normal(*shape):
    """A float32 NumPy array of normal numbers."""
    return np.random.default_rng([SEED, *shape]).normal(size=shape).astype(np.float32)


def tensor(array, dtype):
    """A PyTorch tensor; floating-point numbers as `dtype` (of NumPy)."""
    made = torch.from_numpy(np.ascontiguousarray(array))
    return made.to(torch.float64) if dtype is np.float64 and made.is_floating_point() else made


def nhwc(out):
    """A PyTorch output as NumPy, pictures with channels last."""
    array = out.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def applied(module, params, *args, **kwargs):
    """`module.apply`, compiled quickly; `method` may be among the keywords."""
    run = jax.jit(module.apply, static_argnames="method", compiler_options=QUICK)
    return jax.tree.map(np.asarray, run({"params": params}, *args, **kwargs))


def assert_agree(parity, name, ours, theirs, tolerance=None):
    """Both are one output: the largest error, relative to the output's size, is in tolerance."""
    tolerance = TOLERANCE[ours.dtype.type] if tolerance is None else tolerance
    scale = float(np.abs(theirs).max())
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert scale > 0.1  # something came out
    assert parity(f"live {name}", ours / scale, theirs / scale) < tolerance
