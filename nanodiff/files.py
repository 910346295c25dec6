"""Files: written whole or not at all, read whole or refused.

An `.npz` is a zip of arrays, each with its size and CRC. Those of nanodiff hold arrays
of numbers and, as "about", one JSON text; nothing is ever pickled. A file may come from
anywhere, so no size that it claims is believed before it is compared with the bytes.
"""

import io
import json
import math
import os
import re
import secrets
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

MOST = 2**26  # bytes: what a compressed file may grow to, if it is smaller itself
MAGIC = b"\x93NUMPY\x01\x00"
HEAD = re.compile(  # of an array in an .npy, as NumPy writes it
    rb"\{'descr': '([<>|][biufU]\d+)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d+, ?)*\d*)\), \} *\n"
)


@contextmanager
def refusing(message):
    """Inside, any error becomes a ValueError: the message, and the error in brackets.

    For the reading of files: where they are damaged, zipfile, gzip, json, NumPy and
    what takes their values raise more than ten kinds of error.

    >>> with refusing("path is 'a.json', expected a JSON text"):
    ...     json.loads("nonsense")
    Traceback (most recent call last):
        ...
    ValueError: path is 'a.json', expected a JSON text (Expecting value: ...)
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{message} ({error or type(error).__name__})") from error


def exactly(stream, size):
    """Return all bytes of a stream, which must be `size`; no more are kept meanwhile.

    The end is reached, so a stream that knows its checksum compares it. Raises
    ValueError if there are fewer or more.

    >>> exactly(io.BytesIO(b"abc"), 3)
    bytearray(b'abc')
    """
    found = bytearray()
    while piece := stream.read(min(2**20, size + 1 - len(found))):
        found += piece
    if len(found) != size:
        more = "more" if len(found) > size else f"{len(found)}"
        raise ValueError(f"it has {more} bytes, expected {size}")
    return found


def read_npz(path, message):
    """Return ({name: array}, about) of a file: about is a dict, {} if it has none.

    Raises FileNotFoundError if there is none, and ValueError, with the message and the
    reason, if it is damaged, is of another kind, or would grow beyond MOST bytes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path is {str(path)!r}, expected a file")
    with refusing(message), open(path, "rb") as stream:
        with zipfile.ZipFile(stream) as archive:
            arrays = _arrays(archive, max(MOST, path.stat().st_size))
        about = json.loads(arrays.pop("about").item()) if "about" in arrays else {}
        if not isinstance(about, dict):
            raise ValueError(f"about is {about!r:.50}, expected names and values")
    return arrays, about


def _arrays(archive, most):
    """The arrays of a zip by name, if they have together at most so many bytes."""
    members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("a name stands there twice")
    total = sum(member.file_size for member in members.values())
    if total > most:
        raise ValueError(f"it holds {total} bytes, expected at most {most}")
    arrays = {}
    for name, member in members.items():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name!r} is compressed by method {member.compress_type}")
        with archive.open(member) as stream:
            arrays[name] = _array(name, exactly(stream, member.file_size))
    return arrays


def _array(name, body):
    """The array in the bytes of an `.npy`, in this machine's byte order."""
    start = 10 + int.from_bytes(body[8:10], "little")
    head = HEAD.fullmatch(body[10:start])
    if body[:8] != MAGIC or head is None:
        raise ValueError(f"{name!r} is not an array of numbers")
    dtype, order = np.dtype(head[1].decode()), "F" if head[2] == b"True" else "C"
    shape = tuple(int(size) for size in head[3].split(b",") if size.strip())
    if dtype.kind not in ("U" if name == "about" and not shape else "biuf"):
        raise ValueError(f"{name!r} is {shape} {dtype}, expected numbers, or one text")
    if math.prod(shape) * dtype.itemsize != len(body) - start:
        raise ValueError(f"{name!r} has {len(body) - start} bytes, not {shape} {dtype}")
    array = np.ndarray(shape, dtype, memoryview(body)[start:], order=order)
    return array.astype(dtype.newbyteorder("="))


def write_npz(path, arrays, about):
    """Write arrays of numbers and a dict of settings; see `plain` and `write`.

    >>> write_npz("here.npz", {"a": np.array([None])}, {})
    Traceback (most recent call last):
        ...
    TypeError: 'a' has dtype object, expected numbers
    """
    text = json.dumps(about, default=_plain)
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name!r} has dtype {array.dtype}, expected numbers")
    content = io.BytesIO()
    np.savez(content, about=np.array(text), **arrays)
    write(path, content.getbuffer())


def plain(settings):
    """Return settings as JSON gives them back: Python's own numbers, lists for tuples.

    Raises TypeError for what JSON cannot hold.

    >>> plain({"lr": np.float32(0.5), "channels": (np.int64(8), 8)})
    {'lr': 0.5, 'channels': [8, 8]}
    """
    return json.loads(json.dumps(settings, default=_plain))


def _plain(value):
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(
        f"{value!r} cannot be saved, expected a number, a text, None, a list or a dict"
    )


def write(path, content):
    """Write bytes to a file beside the path, which then takes its place.

    Each has a name of its own, so two that write do not meet. If anything fails, the
    old file stays and nothing is left beside it; an OSError then names the path.
    """
    path = Path(path)
    part = path.with_name(f".part-{secrets.token_hex(8)}-{path.name}")
    try:
        with open(part, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        words = error.strerror or str(error)
        raise OSError(error.errno, words, str(path)) from error
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def alone(path):
    """Inside, the path is this process's to write; what killed ones left is removed.

    The lock is the system's, on a file beside the path, so it ends with the process
    that holds it, however that ends. Raises ValueError if another holds it, or if no
    file can be written there.
    """
    path = Path(path)
    lock = path.with_name(f".lock-{path.name}")
    if path.is_dir():
        raise ValueError(f"path is {str(path)!r}, expected a file, not a folder")
    while True:
        file = _locked(lock, path)
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                break
        file.close()  # the one before removed it just now
    with file:
        part = re.compile(rf"\.part-[0-9a-f]{{16}}-{re.escape(path.name)}")
        for left in path.parent.iterdir():
            if part.fullmatch(left.name):
                left.unlink(missing_ok=True)
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no open file: a lock of nobody
                lock.unlink()


def _locked(lock, path):
    """The lock's file, open and locked."""
    try:
        file = open(lock, "a+", encoding="ascii")
    except OSError as error:
        raise ValueError(
            f"path is {str(path)!r}, expected a place that can be written to ({error})"
        ) from error
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):
        file.close()
        raise ValueError(
            f"path is {str(path)!r}, to which another run is writing at this moment; "
            f"wait for its end, or use another path"
        ) from None
    except OSError:
        pass  # a file system without locks
    return file


def _lock(file):
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
