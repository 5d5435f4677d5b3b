"""Reads weight files of other projects without running anything from them.

PyTorch files are pickles. They are read by torch's ``weights_only`` unpickler, which knows tensors and plain containers
alone. What training frameworks put beside the weights (settings, histories, callbacks) is read as stand-ins that do
nothing, under the few names listed here; the real classes and functions are never imported, let alone called.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kd_seg.core.errors import CheckpointError

State = dict[str, Tensor]

KEYS = ("state_dict", "model_state", "model_state_dict", "model")
"""Entries under which training frameworks keep a network's tensors."""

METADATA = (
    "builtins.getattr",
    "easydict.EasyDict",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
"""Globals of the projects' files that are read as stand-ins."""


DAMAGE = (
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError, OSError, ValueError, TypeError,
    LookupError, AttributeError, AssertionError, OverflowError, MemoryError,
)  # fmt: skip
"""What reading a cut or changed file raises."""


class Inert:
    """Takes what a pickle gives it and forgets it."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Any arguments, none used."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Nothing is kept."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Nothing is kept."""

    def __call__(self, *_: Any, **__: Any) -> Inert:
        """Nothing is done; a pickle may call what the stand-in of ``getattr`` gave it."""
        return self


class InertDict:
    """The same for what is filled like a dictionary, which the unpickler allows for plain ones alone."""

    def __new__(cls, *_: Any, **__: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        """An empty dictionary, whatever the arguments."""
        return OrderedDict()


def _stand_in(name: str) -> type:
    """A class of its own that pickles know by ``name``."""
    module, _, short = name.rpartition(".")
    base = InertDict if short in {"EasyDict", "AttributeDict", "ConfigDict"} else Inert
    return type(short, (base,), {"__module__": module, "__qualname__": short})


def read_state(path: Path) -> State:
    """Tensors by name of a PyTorch or .safetensors file, under the names that the network itself has.

    Raises CheckpointError for a missing, cut-off or foreign file, and for one that needs more than tensors and the
    listed stand-ins; the message then has the two lines that save a plain file in the project's own environment.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the weight file that the project published.")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    state = _find(content)
    if not state:
        raise CheckpointError(
            f"{path} holds no tensors under {', '.join(KEYS)} or at its top; it is no file of network weights."
        )
    while all(name.startswith("module.") for name in state):  # DistributedDataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _safetensors(path: Path) -> State:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable .safetensors file ({error}).") from None


def _pickled(path: Path) -> Any:
    stand_ins: list[Any] = [_stand_in(name) for name in METADATA]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        strange = sorted(set(globals_of(path)) - set(METADATA))
        if strange:
            raise CheckpointError(
                f"{path} is a pickle that needs {', '.join(strange[:5])}{' ...' if len(strange) > 5 else ''}, which "
                f"could run code; it is not opened. {advice()}"
            ) from None
        raise CheckpointError(
            f"{path} is not a readable PyTorch file ({_reason(error)}); it may be cut off. {advice()}"
        ) from None


def _reason(error: BaseException) -> str:
    """The first line of an error; not torch's, which advises to read the file without its safe reader."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines and "weights_only" not in lines[0] else type(error).__name__


def advice() -> str:
    """How to save a plain state dict where the project itself runs."""
    return (
        "In the project's own environment, with its network loaded as `model`, save the weights alone: "
        "`import torch; torch.save({k: v.cpu() for k, v in model.state_dict().items()}, 'plain.pth')`, "
        "then `kd-seg import plain.pth`."
    )


def globals_of(path: Path) -> list[str]:
    """Names that a pickle imports, other than torch's own; found by reading its instructions, none is carried out.

    An empty list where the file is no pickle.
    """
    found: list[str] = []
    try:
        for stream in _pickles(path):
            found.extend(_imports(stream))
    except DAMAGE:
        pass  # what was found before the bytes made no sense is what a person needs
    return [name for name in dict.fromkeys(found) if not name.startswith("torch.") and name not in _PLAIN]


_PLAIN = ("collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.set", "builtins.int")


def _pickles(path: Path) -> Iterator[bytes]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    yield archive.read(name)
    else:
        yield path.read_bytes()


def _imports(stream: bytes) -> Iterator[str]:
    """Globals of the pickles that ``stream`` begins with (files before torch 1.6 hold several in a row)."""
    place = 0
    while place < len(stream):
        texts: list[str] = []
        length = 0
        for code, argument, position in pickletools.genops(stream[place:]):
            length = (position or 0) + 1
            if code.name == "GLOBAL":
                yield str(argument).replace(" ", ".")
            elif code.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
            elif isinstance(argument, str):
                texts.append(argument)
        place += length


def _find(content: Any) -> State:
    """The tensors in what a file held."""
    if not isinstance(content, dict):
        return {}
    for key in KEYS:
        inner = content.get(key)
        if isinstance(inner, dict) and any(isinstance(value, Tensor) for value in inner.values()):
            return {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
