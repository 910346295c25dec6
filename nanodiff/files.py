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
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from nanodiff import check

MOST = 2**26  # bytes: what a compressed file may grow to, if it is smaller itself
LEFT = 3600  # seconds after which a file that was not finished is nobody's
RESERVED = "about", "file", "allow_pickle"  # and no names of arrays, for np.savez
MAGIC = b"\x93NUMPY\x01\x00"
HEAD = re.compile(  # of an array in an .npy, as NumPy writes it
    rb"\{'descr': '([<>|][biufUS]\d+)', 'fortran_order': (True|False), "
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
    check.thing("stream", stream, "a stream of bytes, such as an open file", "read")
    size = check.integer("size", size, 0, 2**62)
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
    arrays = read_arrays(path, message)
    with refusing(message):
        about = json.loads(arrays.pop("about").item()) if "about" in arrays else {}
        if not isinstance(about, dict):
            raise ValueError(f"about is {about!r:.50}, expected names and values")
        for name, array in arrays.items():
            if array.dtype.kind in "US":
                raise ValueError(f"{name!r} is of texts, expected numbers")
    return arrays, about


def read_arrays(path, message, growth=1):
    """Return {name: array} of an `.npz`, or {"": array} of an `.npy`: numbers or texts.

    growth: how many times its own size a compressed file may have; up to MOST it always
    may. Raises as `read_npz` does.
    """
    path, growth = Path(check.path("path", path)), check.integer("growth", growth, 1)
    check.instance("message", message, str)
    if not path.is_file():
        raise FileNotFoundError(f"path is {str(path)!r}, expected a file")
    with refusing(message), open(path, "rb") as stream:
        size = path.stat().st_size
        if stream.read(len(MAGIC)) == MAGIC:
            stream.seek(0)
            return {"": _array(path.name, exactly(stream, size))}
        with zipfile.ZipFile(stream) as archive:
            return _arrays(archive, max(MOST, growth * size))


def _arrays(archive, most):
    """The arrays of a zip by name, if they have together at most so many bytes."""
    members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("a name stands there twice")
    if len(members) != _told(archive):  # of which zipfile takes no notice
        raise ValueError(f"it lists {len(members)} arrays, and says {_told(archive)}")
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


def _told(archive):
    """How many members a zip says that it has, in the 22 bytes before its comment."""
    archive.fp.seek(-22 - len(archive.comment), 2)
    return int.from_bytes(archive.fp.read(22)[10:12], "little")


def _array(name, body):
    """The array in the bytes of an `.npy`, in this machine's byte order."""
    start = 10 + int.from_bytes(body[8:10], "little")
    head = HEAD.fullmatch(body[10:start])
    if body[:8] != MAGIC or head is None:
        raise ValueError(f"{name!r} is not an array of numbers or texts")
    dtype, order = np.dtype(head[1].decode()), "F" if head[2] == b"True" else "C"
    shape = tuple(int(size) for size in head[3].split(b",") if size.strip())
    if math.prod(shape) * dtype.itemsize != len(body) - start:
        raise ValueError(f"{name!r} has {len(body) - start} bytes, not {shape} {dtype}")
    array = np.ndarray(shape, dtype, memoryview(body)[start:], order=order)
    if dtype.kind == "U":
        array.tolist()  # raises ValueError for what is no text
    return array.astype(dtype.newbyteorder("="))


def write_npz(path, arrays, about):
    """Write arrays of numbers and a dict of settings; see `plain` and `write`.

    >>> write_npz("here.npz", {"a": np.array([None])}, {})
    Traceback (most recent call last):
        ...
    TypeError: arrays['a'] has dtype object, expected numbers
    """
    check.path("path", path)
    text = json.dumps(plain(check.instance("about", about, dict), "about"))
    for name, array in check.instance("arrays", arrays, dict).items():
        if not isinstance(name, str) or name in RESERVED:
            raise TypeError(f"arrays has the name {name!r}, expected another text")
        if not isinstance(array, np.ndarray):
            raise TypeError(f"arrays[{name!r}] is {array!r:.50}, expected an array")
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"arrays[{name!r}] has dtype {array.dtype}, expected numbers"
            )
    content = io.BytesIO()
    np.savez(content, about=np.array(text), **arrays)
    write(path, content.getbuffer())


def plain(settings, name="settings"):
    """Return settings as JSON gives them back: Python's own numbers, lists for tuples.

    Raises TypeError, with the name, for what JSON cannot hold.

    >>> plain({"lr": np.float32(0.5), "channels": (np.int64(8), 8)})
    {'lr': 0.5, 'channels': [8, 8]}
    """
    try:
        return json.loads(json.dumps(settings, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{name} cannot be saved: {error}") from error


def _plain(value):
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r:.100}, expected numbers, texts, None, lists and dicts")


def write(path, content):
    """Write bytes to a file beside the path, which then takes its place.

    Each has a name of its own, so two that write do not meet. If anything fails, the
    old file stays and nothing is left beside it; an OSError then names the path. What a
    process that was killed has left there is removed an hour later.
    """
    path = _file(path)
    if not isinstance(content, bytes | bytearray | memoryview):
        check.refuse("content", content, "bytes")
    part = path.with_name(f".part-{os.urandom(8).hex()}-{path.name}")
    try:
        with open(part, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sweep(path, before=time.time() - LEFT)
    except OSError as error:
        words = f"path cannot be written: {error.strerror or error}"
        raise OSError(error.errno, words, str(path)) from error
    finally:
        with suppress(OSError):
            part.unlink()


def _file(path):
    """The path of a file that is there or may be."""
    path = Path(check.path("path", path))
    if path.is_dir():
        check.refuse("path", str(path), "a file, not a folder")
    return path


def _sweep(path, before=math.inf):
    """Remove what writers of this path have left beside it, if it is older."""
    part = re.compile(rf"\.part-[0-9a-f]{{16}}-{re.escape(path.name)}")
    for left in path.parent.iterdir():
        with suppress(OSError):
            if part.fullmatch(left.name) and left.stat().st_mtime < before:
                left.unlink()


@contextmanager
def alone(path):
    """Inside, the path is this process's to write; what killed ones left is removed.

    The lock is the system's, on a file beside the path, so it ends with the process
    that holds it, however that ends. Raises ValueError if another holds it, or if no
    file can be written there.
    """
    path = _file(path)
    lock = path.with_name(f".lock-{path.name}")
    while True:
        file = _locked(lock, path)
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                break
        file.close()  # the one before removed it just now
    with file:
        _sweep(path)
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
