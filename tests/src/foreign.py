"""Answers requests on standard input with python-tuf, one JSON object a line each way.

A request has `folder` (the client's own state), `root` (a file), `metadata` and `targets` (URLs) and maybe `target`.
"""
import hashlib
import json
import os
import sys

from tuf.ngclient import Updater, UpdaterConfig


def error_of(error):
    chain = []
    while error is not None:
        chain.append(type(error).__name__ + ": " + str(error)[:200])
        error = error.__cause__ or error.__context__
    return " <- ".join(chain)


def answer(request):
    folder = request["folder"]
    os.makedirs(folder, exist_ok=True)
    with open(request["root"], "rb") as file:
        root = file.read()
    updater = Updater(
        metadata_dir=folder,
        metadata_base_url=request["metadata"],
        target_base_url=request["targets"],
        target_dir=folder,
        bootstrap=root,
        config=UpdaterConfig(),
    )
    updater.refresh()
    said = {"timestamp": updater._trusted_set.timestamp.version}
    if request.get("target"):
        info = updater.get_targetinfo(request["target"])
        said["found"] = info is not None
        if info is not None:
            try:
                path = updater.download_target(info, os.path.join(folder, "downloaded"))
                with open(path, "rb") as file:
                    said["sha256"] = hashlib.sha256(file.read()).hexdigest()
            except Exception as error:
                said["download_error"] = error_of(error)
                said["status"] = getattr(error, "status_code", None)
    return said


for line in sys.stdin:
    try:
        said = answer(json.loads(line))
    except Exception as error:
        said = {"error": error_of(error)}
    print(json.dumps(said), flush=True)
