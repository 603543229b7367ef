"""Lets CORDS 0.0.4 be imported on today's Python, numpy, scikit-learn and torch, with no preparation.

`cords_shim.pth` imports this module at every start of the interpreter, so it must cost nothing there: it only puts a
finder on `sys.meta_path`. That finder acts when `cords` is first imported, and supplies what CORDS takes for granted:

- `sklearn.datasets.load_boston`, which scikit-learn 1.2 removed: the name exists, calling it raises;
- `torchtext` and `torchtext.data`, which do not load beside a current torch and of which CORDS uses nothing: empty
  modules, unless the real ones can be imported;
- numpy's error state, which two of CORDS's modules turn to "raise everything" for the whole process: each of its
  modules is run in an error state of its own.
"""

import sys

TYPE_CHECKING = False  # as in `typing`, which takes milliseconds to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class CordsFinder:
    """A meta-path finder that knows `cords` and its submodules and leaves every other name to the next finder."""

    prepared = False

    @classmethod
    def find_spec(
        cls, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if fullname != "cords" and not fullname.startswith("cords."):
            return None
        from importlib.machinery import PathFinder, SourceFileLoader

        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec
        if not cls.prepared:
            cls.prepared = True
            supply_load_boston()
            supply_torchtext()

        class Loader(SourceFileLoader):
            def exec_module(self, module: "ModuleType") -> None:
                import numpy

                with numpy.errstate():
                    super().exec_module(module)

        spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


def supply_load_boston() -> None:
    import sklearn.datasets

    def load_boston(*args: object, **kwargs: object) -> None:
        raise NotImplementedError(
            "scikit-learn 1.2 removed the Boston housing data set: load_boston is not available"
        )

    # Into the dictionary, where scikit-learn's __getattr__, which refuses the name, is not asked.
    sklearn.datasets.__dict__.setdefault("load_boston", load_boston)


def supply_torchtext() -> None:
    from importlib import import_module
    from importlib.machinery import ModuleSpec
    from importlib.util import module_from_spec

    try:
        import_module("torchtext.data")
    except (ImportError, OSError, AttributeError):
        # OSError and AttributeError: how a torchtext that was built for another torch fails.
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchtext"]:
            del sys.modules[name]
        # With specs, so that importlib.util.find_spec, asked by others, answers instead of raising.
        package = module_from_spec(ModuleSpec("torchtext", None, is_package=True))
        data = module_from_spec(ModuleSpec("torchtext.data", None))
        package.__dict__["data"] = data
        sys.modules["torchtext"], sys.modules["torchtext.data"] = package, data


# A class with find_spec is all that the import system asks for; the type stubs want more.
sys.meta_path.insert(0, CordsFinder)
