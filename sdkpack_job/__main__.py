"""Runs one job: `python -I -m sdkpack_job JOB`, or, where it is not installed, `python -I .../sdkpack_job JOB`."""

import importlib
import json
import os
import sys


def main(argv):
    folder = os.path.abspath(argv[1])
    _find_ourselves()
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    if job["method"] == "serve":
        return _serve(job)
    answer, code = _answer(folder, job)
    # Beside its name first: what is cut off half-way must not look like an answer.
    path = os.path.join(folder, "answer", "result.json")
    with open(path + ".part", "w", encoding="utf-8") as out:
        json.dump(answer, out)
    os.rename(path + ".part", path)
    return code


def _serve(job):
    from sdkpack_job.packages import expose
    from sdkpack_job.serve import serve

    expose(job["packages"])
    return serve(job)


def _find_ourselves():
    """Makes this package importable by its name, whichever folder it was started from."""
    here = os.path.dirname(os.path.abspath(__file__))
    # Started as a folder, that folder is the path's first entry, and its modules would look like top-level ones.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    if "sdkpack_job" not in sys.modules:
        import importlib.util

        spec = importlib.util.spec_from_file_location(
            "sdkpack_job", os.path.join(here, "__init__.py"), submodule_search_locations=[here]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["sdkpack_job"] = module
        spec.loader.exec_module(module)


def _answer(folder, job):
    from sdkpack_job.codec import decode, plain, told
    from sdkpack_job.context import JobContext
    from sdkpack_job.packages import expose

    try:
        expose(job["packages"])
        module, _, name = job["load"].partition(":")
        worker = getattr(importlib.import_module(module), name)()
        method = getattr(worker, job["method"])
        arguments = [] if job["request"] is None else [decode(job["request"])]
        if job["context"]:
            arguments.append(JobContext(folder, job["work"], job["seed"]))
        return {"ok": True, "result": plain(method(*arguments))}, 0
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        return {"ok": False, "error": told(error)}, 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
