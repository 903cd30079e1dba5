"""Unpacks from wheels what a program linked with libtorch needs: unpack_wheels.py cpu|cuda WHEELS TREE.

cpu   TREE/{lib,include}: the CPU libraries alone, and the two small CUDA libraries that they are linked with.
cuda  TREE/torch/{lib,include} and TREE/nvidia: the layout of an installation, which the libraries' run paths
      expect.
"""

import pathlib
import shutil
import sys
import zipfile

CPU_LIBRARIES = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}


def place(path, variant):
    """Returns where in the tree the wheel's file `path` goes, or None if it is not needed."""
    is_header = path.parts[:2] == ("torch", "include")
    if variant == "cpu":
        if path.name in CPU_LIBRARIES:
            return pathlib.PurePosixPath("lib", path.name)
        return path.relative_to("torch") if is_header else None
    is_library = ".so" in path.name and "lib" in path.parts and path.name != "libtorch_python.so"
    return path if is_header or is_library else None


def main():
    variant, wheels, tree = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                target = None if member.is_dir() else place(pathlib.PurePosixPath(member.filename), variant)
                if target is None:
                    continue
                target = tree / target
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)

    torch = tree if variant == "cpu" else tree / "torch"
    if variant == "cpu":
        missing = CPU_LIBRARIES - {path.name for path in (torch / "lib").iterdir()}
        if missing:
            sys.exit(f"libtorch: the wheels lack {sorted(missing)}")
        # The original libtorch.so only names its parts, libtorch_cuda among them. Here there is one part.
        (torch / "lib" / "libtorch.so").symlink_to("libtorch_cpu.so")
    # The version that torch-sys and libtorch.sh compare; wheels have it only in a Python file.
    (torch / "build-version").write_text("2.11.0+cpu\n" if variant == "cpu" else "2.11.0+cu130\n")


if __name__ == "__main__":
    main()
