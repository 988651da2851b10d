"""The Linux calls that Python's library lacks, through libc. x86-64 and AArch64."""

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

# include/uapi/linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

# include/uapi/asm-generic/unistd.h: the same numbers on both machines since 5.0.
_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
_IO_URING_SETUP = 425
# (AUDIT_ARCH, socket, capset)
_MACHINES = {"x86_64": (0xC000003E, 41, 126), "aarch64": (0xC00000B7, 198, 91)}
_X32_BIT = 0x40000000


def _checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def unshare(flags):
    _checked(_libc.unshare(ctypes.c_int(flags)))


def mount_proc():
    """A /proc that shows the processes of this namespace alone; other mounts stay as they are, and private."""
    _checked(_libc.mount(None, b"/", None, ctypes.c_ulong(0x4000 | 0x40000), None))  # MS_REC | MS_PRIVATE
    _checked(_libc.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(0xE), None))  # nosuid, nodev, noexec


def die_with_parent():
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0))


def no_new_privileges():
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def drop_capabilities():
    for number in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            break
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    _checked(_libc.syscall(_MACHINES[os.uname().machine][2], header, bytes(24)))


def landlock_version():
    """The kernel's Landlock ABI; 0 where it has none."""
    return max(_libc.syscall(_LANDLOCK_CREATE, None, 0, 1), 0)


# Rights of include/uapi/linux/landlock.h, by the ABI that they came with.
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
READ = EXECUTE | READ_FILE | READ_DIR
_BASE = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FILE_ONLY = EXECUTE | 1 << 1 | READ_FILE | _TRUNCATE | _IOCTL_DEV
_NET_ALL = 0b11
_SCOPE_ALL = 0b11


def landlock(rules, network):
    """Restricts this process and all that it starts, for ever.

    Args:
        rules: pairs of a path and whether it may be written to; a path that does not exist is left out.
        network: whether TCP stays allowed.
    Returns:
        The ABI that was used.
    Raises:
        OSError: the kernel has no Landlock, or refuses.
    """
    version = landlock_version()
    if not version:
        raise OSError("the kernel has no Landlock")
    rights = _BASE | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    rights |= _IOCTL_DEV if version >= 5 else 0
    net = _NET_ALL if version >= 4 and not network else 0
    scope = _SCOPE_ALL if version >= 6 else 0
    attributes = struct.pack("=QQQ", rights, net, scope)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _checked(_libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0))
    try:
        for path, writable in rules:
            _allow(ruleset, path, rights if writable else READ)
        _checked(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset, path, rights):
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _FILE_ONLY
        _checked(_libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, fd), 0))
    finally:
        os.close(fd)


def refuse_sockets():
    """Makes socket(2) and io_uring_setup(2) fail with EACCES; pairs of connected sockets stay possible.

    Every family is refused, local ones too: a path to a daemon's socket, of a container engine or an SSH agent, is a
    way out that neither a network namespace nor Landlock closes.
    """
    audit, socket, _ = _MACHINES[os.uname().machine]
    load, jump_eq, jump_ge, ret = 0x20, 0x15, 0x35, 0x06
    refuse, kill, allow = 0x00050000 | 13, 0x80000000, 0x7FFF0000
    program = [
        (load, 0, 0, 4),  # seccomp_data.arch
        (jump_eq, 1, 0, audit),
        (ret, 0, 0, kill),  # a 32-bit call on a 64-bit machine would have other numbers
        (load, 0, 0, 0),  # seccomp_data.nr
        (jump_ge, 3, 0, _X32_BIT),
        (jump_eq, 2, 0, socket),
        (jump_eq, 1, 0, _IO_URING_SETUP),
        (ret, 0, 0, allow),
        (ret, 0, 0, refuse),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    filter_ = struct.pack("@HP", len(program), ctypes.addressof(code))
    _checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_, 0, 0))
