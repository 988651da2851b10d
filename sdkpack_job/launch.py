"""Starts a job with as little of the machine as possible: `python -I -S launch.py JOB`.

It reads `launch.orders`, applies what this kernel allows, writes down what that was, and becomes the toolchain. Each
measure is tried on its own: what a kernel or container refuses is told, not fatal. Nothing of a plugin runs before.
"""

import os
import resource
import sys

try:
    # What `signal` adds are enumerations, which take as long to load as all of the rest.
    import _signal as signal
except ImportError:
    import signal


def main(argv):
    with open(os.path.join(argv[1], "launch.orders"), "rb") as file:
        wanted = read_orders(file.read())
    told = {}
    system = _load_system(told)
    if system is not None:
        _attempt(told, "parent", "dies with it", system.die_with_parent)
    init = system is not None and _namespaces(wanted, system, told)
    if init:
        _become_child(wanted, told, system)
    _restrict(wanted, told, system)
    _start(wanted, told)


def read_orders(content):
    """Strings behind NULs, which neither paths nor variables hold: a name, how many there are, and each of them. JSON
    would be read by more code than everything else here takes."""
    found = {}
    words = iter(os.fsdecode(content).split("\0"))
    for name in words:
        if name:
            found[name] = [next(words) for _ in range(int(next(words)))]
    return {
        "argv": found["argv"],
        "environment": dict(pair.split("=", 1) for pair in found["environment"]),
        "work": found["work"][0],
        "readable": found["readable"],
        "writable": found["writable"],
        "network": found["network"] == ["1"],
        "enforced_fd": int(found["enforced_fd"][0]),
        "limits": {pair.split("=")[0]: int(pair.split("=")[1]) for pair in found["limits"]},
    }


def _load_system(told):
    # Isolated (-I), the folder of a script is not on its path; it is ours, and off again at once.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    try:
        import system
    except (ImportError, OSError, AttributeError) as error:
        for name in ("processes", "network", "files", "privileges"):
            told[name] = "not enforced: {}".format(error)
        return None
    finally:
        del sys.path[0]
    return system


def _attempt(told, name, what, measure):
    """Whether `measure` worked; `told` has either way what came of it."""
    try:
        measure()
    except (OSError, KeyError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        told.setdefault(name, "not enforced: {}".format(reason.lower()))
        return False
    old = told.get(name, "")
    told[name] = what if not old or old.startswith("not enforced") else old + ", " + what
    return True


def _namespaces(wanted, system, told):
    """Enters namespaces of its own; whether processes are among them, so that none can outlive the job."""
    user, group = os.getuid(), os.getgid()

    def enter(flags):
        system.unshare(system.CLONE_NEWUSER | flags)
        for name, text in (
            ("setgroups", "deny"), ("uid_map", "{0} {0} 1".format(user)), ("gid_map", "{0} {0} 1".format(group)),
        ):  # fmt: skip
            with open("/proc/self/" + name, "w") as out:
                out.write(text)

    flags = system.CLONE_NEWPID | system.CLONE_NEWNS | system.CLONE_NEWIPC
    own_net = 0 if wanted["network"] else system.CLONE_NEWNET

    def enter_twice():
        # In a child first: where the kernel lets one in and then refuses the rest, there is no way back.
        child = os.fork()
        if not child:
            try:
                enter(flags | own_net)
                os._exit(0)
            except OSError as error:
                os._exit(error.errno or 1)
        code = os.WEXITSTATUS(os.waitpid(child, 0)[1])
        if code:
            raise OSError(code, os.strerror(code))
        enter(flags | own_net)

    if not _attempt(told, "processes", "a namespace of their own", enter_twice):
        if own_net:
            told["network"] = told["processes"]
        return False
    if own_net:
        told["network"] = "a namespace without interfaces"
    return True


def _become_child(wanted, told, system):
    """Returns in the child. The parent waits for it and passes its end on; when the first process of a namespace ends,
    the kernel ends all others in it."""
    child = os.fork()
    if child:
        _wait_and_pass_on(child)
    system.die_with_parent()
    _attempt(told, "processes", "an own /proc", system.mount_proc)
    # The namespace's first process ignores what its own kind sends it, SIGABRT of an assertion above all: it is not
    # the toolchain itself.
    child = os.fork()
    if child:
        _wait_and_pass_on(child)
    system.die_with_parent()


def _wait_and_pass_on(child):
    # Not an exit at once: the end of a namespace's first process is told when all others in it have ended, and then
    # the job's folder can go.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    while True:
        pid, status = os.wait()
        if pid != child:
            continue
        if os.WIFEXITED(status):
            os._exit(os.WEXITSTATUS(status))
        # As shells do: a signal that this process cannot always die of itself.
        os._exit(128 + os.WTERMSIG(status))


def _restrict(wanted, told, system):
    limits = wanted["limits"]
    for name, kind, value in (
        ("memory", resource.RLIMIT_AS, limits["memory_bytes"]),
        ("file size", resource.RLIMIT_FSIZE, limits["disk_bytes"]),
        ("core dumps", resource.RLIMIT_CORE, 0),
        ("processor time", resource.RLIMIT_CPU, limits.get("cpu_s")),
        ("open files", resource.RLIMIT_NOFILE, limits["open_files"]),
    ):
        if value is not None:
            _attempt(told, name, str(value), lambda kind=kind, value=value: _limit(kind, value))
    if os.getuid() == 0:
        told["process count"] = "watched: the kernel does not count root's processes"
    else:
        _attempt(told, "process count", str(limits["processes"]), lambda: _limit_processes(limits["processes"]))
    if system is None:
        return
    _attempt(told, "privileges", "none new", system.no_new_privileges)
    if told["processes"].startswith("a namespace") or os.getuid() == 0:
        _attempt(told, "privileges", "capabilities dropped", system.drop_capabilities)
    rules = [*((path, False) for path in wanted["readable"]), *((path, True) for path in wanted["writable"])]
    _attempt(
        told, "files", "landlock {}".format(system.landlock_version()),
        lambda: system.landlock(rules, wanted["network"]),
    )  # fmt: skip
    if not wanted["network"]:
        _attempt(told, "network", "no socket can be made", system.refuse_sockets)
    else:
        told["network"] = "granted by the user"


def _limit(kind, value):
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _limit_processes(extra):
    """`extra` beyond what the user runs already: the kernel counts all of a user's processes."""
    user, running = os.getuid(), 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat("/proc/" + name).st_uid == user:
                    running += len(os.listdir("/proc/{}/task".format(name)))
            except OSError:
                continue
    _limit(resource.RLIMIT_NPROC, running + extra)


def _start(wanted, told):
    # Before the toolchain can write anywhere: what it says of its own cage is worth nothing.
    os.write(wanted["enforced_fd"], os.fsencode("".join("{}\0{}\0".format(*pair) for pair in told.items())))
    os.close(wanted["enforced_fd"])
    os.chdir(wanted["work"])
    argv = wanted["argv"]
    try:
        os.execve(argv[0], argv, wanted["environment"])
    except OSError as error:
        sys.stderr.write("cannot start {}: {}\n".format(argv[0], error.strerror))
        os._exit(127)


if __name__ == "__main__":
    main(sys.argv)
