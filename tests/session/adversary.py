"""Tries every way from inside a `scrubfs run` to bytes that it must not see. Prints one line a door; a line that begins with OPEN is a
way in. Knows all that a well-informed attacker may know: paths, file handles and process ids from outside, given as JSON."""
import ctypes, errno, fcntl, glob, json, os, re, socket, stat, struct, sys, termios

know = json.load(open(sys.argv[1]))
canary = know["canary"].encode()
workspace, hidden, home_secret = know["workspace"], know["hidden"], know["home_secret"]
libc = ctypes.CDLL(None, use_errno=True)
opened, tried = [], 0

NEWUSER, NEWNS, NEWPID = 0x10000000, 0x00020000, 0x20000000
MS_BIND, MS_REC, MS_MOVE, MS_REMOUNT, MS_PRIVATE = 0x1000, 0x4000, 0x2000, 0x20, 1 << 18
MNT_DETACH = 2


def call(name, *args):
    """A libc function; an OSError as Python's own calls raise."""
    result = getattr(libc, name)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(number, *args):
    result = libc.syscall(ctypes.c_long(number), *args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mount(source, target, kind, flags, data=None):
    enc = lambda s: None if s is None else os.fsencode(s)
    return call("mount", enc(source), enc(target), enc(kind), ctypes.c_ulong(flags), enc(data))


def reads(path):
    """Whether the canary can be read at a path, or in a file beneath it."""
    try:
        if os.path.isdir(path):
            found = False
            for top, dirs, files in os.walk(path):
                found = found or any(reads(os.path.join(top, f)) for f in files)
            return found
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        return canary in os.read(fd, 1 << 20)
    except OSError:
        return False


def door(name, attempt):
    """Runs an attempt in a child of its own, so that what it breaks is its own. It opens the door if it returns true."""
    global tried
    tried += 1
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            verdict = "OPEN" if attempt() else "shut"
        except (NameError, TypeError, AttributeError, ValueError, KeyError) as e:
            verdict = "OPEN for all we know: the attempt is broken: %r" % e
        except BaseException as e:
            verdict = "shut (%s)" % e
        os.write(write, verdict.encode()[:400])
        os._exit(0)
    os.close(write)
    said = os.read(read, 400).decode() or "shut (ended)"
    os.close(read)
    os.waitpid(pid, 0)
    if said.startswith("OPEN"):
        opened.append(name)
    print(("OPEN " if said.startswith("OPEN") else "     ") + name + ": " + said, flush=True)


def in_new_namespaces(attempt):
    """The attempt with all capabilities in a user namespace of its own."""

    def run():
        uid, gid = os.getuid(), os.getgid()
        call("unshare", NEWUSER | NEWNS)
        for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % gid)):
            try:
                open("/proc/self/" + name, "w").write(text)
            except OSError:
                pass
        return attempt()

    return run


def ancestors(path):
    while path != "/":
        path = os.path.dirname(path)
        yield path


def beneath(base, place):
    return os.path.join(place, os.path.relpath(hidden, base))


# ------------------------------------------------------------------ plain paths

door("the path itself", lambda: reads(hidden))
door("a path with ..", lambda: reads(workspace + "/sub/../" + os.path.basename(hidden)))
door("the root link", lambda: reads("/proc/self/root" + hidden))
door("the cwd link", lambda: reads("/proc/self/cwd/" + os.path.basename(hidden)))
door("the workspace's listing", lambda: os.path.basename(hidden) in os.listdir(workspace))
door("another mount of the workspace", lambda: any(reads(p) for p in know["aliases"]))
door("the home directory's secret", lambda: reads(home_secret))
door("the directory of the home directory's secret", lambda: reads(os.path.dirname(home_secret)))


def by_link():
    link = workspace + "/a-link"
    os.symlink(hidden, link)
    return reads(link)


def by_hard_link():
    os.link(hidden, workspace + "/a-hard-link")
    return reads(workspace + "/a-hard-link")


def by_home_hard_link():
    link = os.path.join(os.path.dirname(os.path.dirname(home_secret)), "a-hard-link")
    os.link(home_secret, link)
    return reads(link)


def by_rename_over():
    os.rename(workspace + "/plain", hidden)
    return reads(hidden)


door("a symbolic link", by_link)
door("a hard link", by_hard_link)
door("a hard link to the home directory's secret", by_home_hard_link)
door("renaming over it", by_rename_over)


def moved_parent():
    parent = os.path.dirname(workspace)
    aside = parent + "-moved"
    os.rename(parent, aside)
    try:
        os.makedirs(workspace)
        return reads(aside) or reads(workspace)
    finally:
        os.rmdir(workspace)
        os.rmdir(parent)
        os.rename(aside, parent)


door("moving the workspace's parent away", moved_parent)

# ------------------------------------------------------------------ /proc

def inherited(number):
    try:
        fd = os.open(os.path.basename(hidden), os.O_RDONLY, dir_fd=number)
    except OSError:
        return False
    return canary in os.read(fd, 1 << 20)


door("every process's root", lambda: any(reads(p + hidden) for p in glob.glob("/proc/[0-9]*/root")))
door("every process's cwd", lambda: any(reads(p + "/" + os.path.basename(hidden)) for p in glob.glob("/proc/[0-9]*/cwd")))
door("every process's descriptors", lambda: any(reads(p) or reads(p + "/" + os.path.basename(hidden)) for p in glob.glob("/proc/[0-9]*/fd/*")))
door("an inherited directory", lambda: any(b for b in [inherited(n) for n in range(3, 64)]))
door("the daemon in /proc", lambda: any(os.path.exists("/proc/%d/fd" % p) and open("/proc/%d/comm" % p).read() == "scrubfs\n" for p in know["daemons"]))
door("the kernel's memory", lambda: len(os.read(os.open("/proc/kcore", os.O_RDONLY), 1)) > 0)
door("a core pattern", lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY) >= 0)
door("magic system request", lambda: os.open("/proc/sysrq-trigger", os.O_WRONLY) >= 0)


def memory(pid):
    """All readable memory of a process."""
    found = False
    for line in open("/proc/%d/maps" % pid):
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
        if not match or "[v" in line:
            continue
        begin, end = (int(x, 16) for x in match.groups())
        with open("/proc/%d/mem" % pid, "rb", 0) as f:
            f.seek(begin)
            found = found or canary in f.read(min(end - begin, 64 << 20))
    return found


def attach(pid):
    call("ptrace", 16, pid, 0, 0)
    return True


def take_descriptors(pid):
    pidfd = syscall(434, pid, 0)
    for number in range(64):
        try:
            fd = syscall(438, pidfd, number, 0)
        except OSError:
            continue
        if reads("/proc/self/fd/%d" % fd) or reads("/proc/self/fd/%d/%s" % (fd, os.path.basename(hidden))):
            return True
    return False


class Vec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


def read_by_vm(pid):
    buffer = ctypes.create_string_buffer(4096)
    local, remote = Vec(ctypes.addressof(buffer), 4096), Vec(0x400000, 4096)
    call("process_vm_readv", pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    return True


# The first process of a container is the container's own; that of a `run` is not the program's.
first = [("the first process", 1)] if know.get("first", True) else []
for who, pid in first + [("the daemon's number", p) for p in know["daemons"]]:
    # A number from outside means nothing here, or another process.
    if pid != 1 and os.path.exists("/proc/%d" % pid):
        continue
    door("memory of " + who, lambda: memory(pid))
    door("tracing " + who, lambda: attach(pid))
    door("taking descriptors of " + who, lambda: take_descriptors(pid))
    door("reading across from " + who, lambda: read_by_vm(pid))

# ------------------------------------------------------------------ namespaces


def join(path):
    fd = os.open(path, os.O_RDONLY)
    call("setns", fd, 0)
    return reads(hidden)


def parent_namespace(kind):
    fd = os.open("/proc/self/ns/" + kind, os.O_RDONLY)
    parent = fcntl.ioctl(fd, 0xB702)
    call("setns", parent, 0)
    return reads(hidden)


def owner_namespace():
    fd = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    owner = fcntl.ioctl(fd, 0xB701)
    up = fcntl.ioctl(owner, 0xB702)
    call("setns", up, 0)
    return True


for pid in [1] + know["daemons"]:
    for kind in ("mnt", "user", "pid"):
        door("joining namespace %s of process %d" % (kind, pid), lambda: pid != 1 and join("/proc/%d/ns/%s" % (pid, kind)))
door("the parent PID namespace", lambda: parent_namespace("pid"))
door("the parent user namespace", lambda: parent_namespace("user"))
door("the owner's parent", owner_namespace)

# ------------------------------------------------------------------ mounts


def mountpoints():
    for line in open("/proc/self/mountinfo"):
        yield re.sub(r"\\(\d{3})", lambda m: chr(int(m.group(1), 8)), line.split()[4])


def unmount_all():
    for point in reversed(list(mountpoints())):
        for flags in (0, MNT_DETACH):
            try:
                call("umount2", os.fsencode(point), flags)
            except OSError:
                pass
    return reads(hidden) or reads(home_secret)


def bind(flags):
    def attempt():
        os.makedirs("/tmp/adversary", exist_ok=True)
        for base in ancestors(hidden):
            try:
                mount(base, "/tmp/adversary", None, flags)
            except OSError:
                continue
            if reads(beneath(base, "/tmp/adversary")):
                return True
            for point in reversed(list(mountpoints())):
                if point.startswith("/tmp/adversary/"):
                    try:
                        call("umount2", os.fsencode(point), MNT_DETACH)
                    except OSError:
                        pass
            if reads(beneath(base, "/tmp/adversary")):
                return True
            call("umount2", b"/tmp/adversary", MNT_DETACH)
        return False

    return attempt


def open_tree(flags):
    def attempt():
        for base in ancestors(hidden):
            try:
                tree = syscall(428, -100, os.fsencode(base), flags)
            except OSError:
                continue
            path = os.path.relpath(hidden, base)
            try:
                fd = os.open(path, os.O_RDONLY, dir_fd=tree)
            except OSError:
                continue
            if canary in os.read(fd, 1 << 20):
                return True
        return False

    return attempt


def overlay():
    for base in ancestors(hidden):
        if base == "/":
            break
        for sub in ("u", "w", "m"):
            os.makedirs("/tmp/adversary-overlay/" + sub, exist_ok=True)
        try:
            mount("o", "/tmp/adversary-overlay/m", "overlay", 0, "lowerdir=%s,upperdir=/tmp/adversary-overlay/u,workdir=/tmp/adversary-overlay/w,userxattr" % base)
        except OSError:
            continue
        if reads(beneath(base, "/tmp/adversary-overlay/m")):
            return True
    return False


def move_away():
    os.makedirs("/tmp/adversary-moved", exist_ok=True)
    for point in (workspace, os.path.dirname(home_secret), know["state"]):
        try:
            mount(point, "/tmp/adversary-moved", None, MS_MOVE)
        except OSError:
            continue
    return reads(hidden) or reads(home_secret) or reads(know["state"])


def pivot():
    os.makedirs("/tmp/adversary-root", exist_ok=True)
    mount("t", "/tmp/adversary-root", "tmpfs", 0)
    os.mkdir("/tmp/adversary-root/old")
    syscall(155, b"/tmp/adversary-root", b"/tmp/adversary-root/old")
    for point in reversed(list(mountpoints())):
        try:
            call("umount2", os.fsencode(point), 0)
        except OSError:
            pass
    return reads("/old" + hidden) or reads("/old" + home_secret)


def fresh_proc():
    call("unshare", NEWPID)
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    try:
        os.makedirs("/tmp/adversary-proc", exist_ok=True)
        mount("proc", "/tmp/adversary-proc", "proc", 0)
        hit = any(reads(p + hidden) for p in glob.glob("/tmp/adversary-proc/[0-9]*/root"))
    except OSError:
        hit = False
    os._exit(3 if hit else 0)


def old_proc():
    try:
        call("umount2", b"/proc", MNT_DETACH)
        call("umount2", b"/proc", MNT_DETACH)
    except OSError:
        pass
    return any(os.path.exists("/proc/%d" % p) for p in know["daemons"])


def remount():
    for point in (know["state"], os.path.dirname(home_secret), know["config"]):
        try:
            mount(None, point, None, MS_REMOUNT | MS_BIND)
            open(point + "/written", "w").close()
            return True
        except OSError:
            continue
    return False


for name, attempt in [
    ("unmounting everything", unmount_all),
    ("binding a parent", bind(MS_BIND)),
    ("binding a parent with what is mounted in it", bind(MS_BIND | MS_REC)),
    ("a copy of a parent's mount", open_tree(1)),
    ("a copy of a parent's mounts", open_tree(0x8001)),
    ("an overlay over a parent", overlay),
    ("moving the covers away", move_away),
    ("another root", pivot),
    ("another /proc", fresh_proc),
    ("the /proc beneath", old_proc),
    ("remounting covers writable", remount),
]:
    door(name, attempt)
    door(name + ", in namespaces of its own", in_new_namespaces(attempt))


def helper():
    return os.system("fusermount3 -u -z '%s' 2>/dev/null" % workspace) == 0 and reads(hidden)


door("fusermount3", helper)
door("changing the uid", lambda: os.setuid(0) is None and os.getuid() != know["uid"])

# ------------------------------------------------------------------ file handles


def by_handle():
    for handle, kind in know["handles"]:
        raw = bytes.fromhex(handle)
        buffer = struct.pack("Ii", len(raw), kind) + raw
        for base in ("/", os.path.dirname(workspace), "/tmp", "/etc"):
            at = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
            for flags in (os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY, 0o10000000):
                try:
                    fd = syscall(304, at, buffer, flags)
                except OSError:
                    continue
                path = "/proc/self/fd/%d" % fd
                if reads(path) or reads(path + "/" + os.path.basename(hidden)):
                    return True
    return False


door("a file handle from outside", by_handle)
door("a file handle from outside, in namespaces of its own", in_new_namespaces(by_handle))

# ------------------------------------------------------------------ state, devices, the terminal


def ask_daemon():
    for path in know["sockets"]:
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        return True
    return False


def devices():
    hits = []
    for name in os.listdir("/sys/class/block") if os.path.isdir("/sys/class/block") else []:
        for path in ("/dev/" + name,):
            try:
                hits.append(os.open(path, os.O_RDONLY))
            except OSError:
                pass
        try:
            major, minor = open("/sys/class/block/%s/dev" % name).read().split(":")
            path = "/tmp/adversary-" + name
            os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
            hits.append(os.open(path, os.O_RDONLY))
        except OSError:
            pass
    return bool(hits)


def inject():
    terminals = [os.open("/dev/tty", os.O_RDWR)] if os.path.exists("/dev/tty") and not know.get("filter", True) else []
    for fd in [0, 1, 2, os.open("/dev/null", os.O_RDWR)] + terminals:
        try:
            fcntl.ioctl(fd, termios.TIOCSTI, b"x")
            return True
        except OSError as e:
            # `run` has the kernel refuse the call on whatever it is tried; an engine gives the program no terminal.
            if e.errno != errno.EPERM and know.get("filter", True):
                return True
    return False


door("the state directory", lambda: reads(know["state"]) or os.path.exists(know["state"] + "/sessions"))
door("writing to the state directory", lambda: open(know["state"] + "/x", "w"))
door("the user's rules for the next session", lambda: open(know["config"] + "/rules.toml", "w"))
door("the daemon's control socket", ask_daemon)
door("disks", devices)
door("disks, in namespaces of its own", in_new_namespaces(devices))
door("the terminal's input", inject)
door("capabilities", lambda: not re.search(r"CapEff:\s+0+\n", open("/proc/self/status").read()))
door("an agent's socket", lambda: bool(know["agent"]) and socket.socket(socket.AF_UNIX).connect(know["agent"]) is None)

print("%d doors tried, %d open" % (tried, len(opened)))
sys.exit(1 if opened else 0)
