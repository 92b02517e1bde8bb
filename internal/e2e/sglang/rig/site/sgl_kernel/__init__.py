"""What a machine without a GPU lacks, for SGLang on `--device cpu`.

SGLang imports its compiled kernels by name wherever a layer might use them. With the torch_native attention backend and
a plain Llama no layer does: every name resolves, to something that fails when it is called. Pinned memory, which the
LoRA code asks for, is ordinary memory here.
"""

import functools
import importlib.machinery
import sys
import types


class Kernel:
    """A kernel that is not there: it has a name, and attributes (overloads), and cannot be called."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return Kernel(self._name + "." + attribute)

    def __call__(self, *_, **__):
        raise NotImplementedError(self._name + ": there are no compiled kernels in the CPU rig")


class Module(types.ModuleType):
    """This package, and whatever module is imported from below it."""

    def __getattr__(self, attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return Kernel(self.__name__ + "." + attribute)


class Below:
    """Finds every module below this package, and makes it."""

    @classmethod
    def find_spec(cls, name, _path=None, _target=None):
        if name.startswith(__name__ + "."):
            return importlib.machinery.ModuleSpec(name, cls, is_package=True)

    @staticmethod
    def create_module(spec):
        return Module(spec.name)

    @staticmethod
    def exec_module(_module):
        pass


def without_pinned_memory():
    """Make torch take memory as it is where pinned memory is asked for: only a GPU's driver can pin it."""
    import torch

    if torch.cuda.is_available():
        return

    def unpinned(make):
        @functools.wraps(make)
        def wrapper(*args, **kwargs):
            kwargs.pop("pin_memory", None)
            return make(*args, **kwargs)

        return wrapper

    for name in ("arange", "empty", "empty_like", "full", "ones", "ones_like", "tensor", "zeros", "zeros_like"):
        setattr(torch, name, unpinned(getattr(torch, name)))
    torch.Tensor.pin_memory = lambda self, *_, **__: self


__version__ = "0"
sys.modules[__name__].__class__ = Module
sys.meta_path.append(Below)
without_pinned_memory()
