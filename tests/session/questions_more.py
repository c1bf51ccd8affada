"""More questions of questions.py: names, attributes, owners, listings, limits. Run it as that one; it brings all questions together."""
import ctypes, errno, fcntl, os, resource, signal, socket, stat, subprocess, sys, time

import questions
from questions import AT_FDCWD, CONTENT, build, call, get, in_child, libc, listing, put, question, short, tried

ROOT = os.geteuid() == 0


@question
def times():
    answers = []
    for ns in ((1, 999_999_999), (-1, -5_000_000_001), (1_700_000_000_123_456_789, 4_000_000_000_000_000_001), (0, 0)):
        os.utime("f", ns=ns)
        s = os.stat("f")
        answers.append((s.st_atime_ns, s.st_mtime_ns))
    os.utime("ln", ns=(3, 4), follow_symlinks=False), os.utime("d", ns=(5, 6)), os.utime("fifo", ns=(7, 8))
    answers += [os.lstat(p).st_mtime_ns for p in ("ln", "d", "fifo")]
    fd = os.open("g", os.O_RDONLY)
    call("futimens", fd, (ctypes.c_long * 4)(0, 0x3FFFFFFE, 9, 8))
    answers.append(os.fstat(fd).st_mtime_ns)
    before = os.stat("g").st_ctime_ns
    time.sleep(0.02)
    call("futimens", fd, None)
    answers += [abs(os.fstat(fd).st_mtime - time.time()) < 5, os.fstat(fd).st_ctime_ns > before]
    return answers


@question
def times_that_change_by_themselves():
    def changed(path, act):
        before = os.lstat(path)
        time.sleep(0.012)
        act()
        after = os.lstat(path)
        return after.st_mtime_ns > before.st_mtime_ns, after.st_ctime_ns > before.st_ctime_ns

    return [
        changed("d", lambda: put("d/n", b"")), changed("d", lambda: os.unlink("d/n")), changed("d", lambda: os.mkdir("d/m")), changed("d", lambda: os.rmdir("d/m")),
        changed("d", lambda: os.rename("d/a", "d/aa")), changed("d", lambda: os.rename("d/b", "other/b")), changed("other", lambda: os.unlink("other/b")),
        changed("f", lambda: os.chmod("f", 0o600)), changed("f", lambda: os.link("f", "d/f")), changed("f", lambda: os.unlink("d/f")),
        changed("d/c", lambda: os.utime("other")), changed("d", lambda: os.chmod("d/c", 0o600)),
        changed("d", lambda: put_into("d/c")), changed("d/c", lambda: put_into("d/c")), changed("g", lambda: os.truncate("g", 2)), changed("g", lambda: os.truncate("g", 1)),
        changed("f", lambda: os.setxattr("f", "user.a", b"b")), changed("f", lambda: os.link("f", "f2")), changed("f", lambda: os.unlink("f2")), changed("f", lambda: get("f")),
        changed("f", lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))), changed("empty", lambda: os.close(os.open("empty", os.O_WRONLY | os.O_TRUNC))),
    ]


def put_into(path):
    with open(path, "ab") as file:
        file.write(b"x")


@question
def owners():
    s = os.stat("setid")
    answers = [oct(s.st_mode)]
    if ROOT:
        os.chown("f", 1234, 4321), os.chown("ln", 11, 22, follow_symlinks=False), os.chown("d", -1, 77)
        os.chown("setid", 12, 99)
        answers += [(os.lstat(p).st_uid, os.lstat(p).st_gid, oct(os.lstat(p).st_mode)) for p in ("f", "ln", "d", "setid")]
        os.chmod("setid", 0o2745)
        os.chown("setid", 12, 98)
        answers.append(oct(os.stat("setid").st_mode))
        os.chmod("g", 0o6777), os.chmod("x", 0o6777)
        os.truncate("g", 1), put_into("x")
        answers += [oct(os.stat(p).st_mode) for p in ("g", "x")]
        return answers
    group = os.getgid()
    os.chown("f", os.getuid(), group), os.chown("f", -1, group)
    answers += [tried(os.chown, "f", 0, -1), tried(os.chown, "f", -1, 0), tried(os.chown, "ln", -1, 0, follow_symlinks=False)]
    for how in (lambda: put_into("setid"), lambda: os.truncate("setid", 9), lambda: os.chown("setid", -1, group), lambda: os.chmod("setid", 0o2755),
                lambda: call("fallocate", os.open("setid", os.O_RDWR), 0, ctypes.c_long(0), ctypes.c_long(999)), lambda: os.setxattr("setid", "user.q", b"1"), lambda: os.utime("setid")):
        os.chmod("setid", 0o6755)
        how()
        answers.append(oct(os.stat("setid").st_mode))
    os.chmod("setid", 0o2644), put_into("setid")
    return answers + [oct(os.stat("setid").st_mode)]


@question
def umasks():
    answers = []
    for mask in (0o077, 0o027, 0):
        old = os.umask(mask)
        os.close(os.open("n", os.O_CREAT | os.O_WRONLY, 0o666)), os.mkdir("nd"), os.mkfifo("np"), os.symlink("x", "nl")
        sock = socket.socket(socket.AF_UNIX)
        sock.bind("ns")
        os.umask(old)
        answers.append([oct(os.lstat(p).st_mode) for p in ("n", "nd", "np", "nl", "ns")])
        for p in ("n", "np", "nl", "ns"):
            os.unlink(p)
        os.rmdir("nd")
    os.close(os.open("odd", os.O_CREAT | os.O_WRONLY, 0o4751)), os.mkdir("odddir", 0o1770)
    return answers, oct(os.stat("odd").st_mode), oct(os.stat("odddir").st_mode)


@question
def setgid_directories():
    if ROOT:
        os.chown("setgid", 0, 55)
        os.chmod("setgid", 0o2775)
    put("setgid/f"), os.mkdir("setgid/d"), os.mkdir("setgid/d/d"), os.symlink("x", "setgid/l"), os.mkfifo("setgid/p")
    os.link("f", "setgid/linked"), os.rename("g", "setgid/g"), os.rename("void", "setgid/void")
    own = os.stat("setgid").st_gid
    inside = [(oct(os.lstat(p).st_mode), os.lstat(p).st_gid == own) for p in ("setgid/f", "setgid/d", "setgid/d/d", "setgid/l", "setgid/p", "setgid/linked", "setgid/g", "setgid/void")]
    return inside, oct(os.stat("setgid").st_mode)


def as_user(uid, act):
    def inside():
        os.setgroups([]), os.setgid(uid), os.setuid(uid)
        return act()

    return in_child(inside)


@question
def other_users():
    """Only root can ask."""
    if not ROOT:
        return None
    put("sticky/root", b"r", 0o666)
    os.chmod("d", 0o755), os.chmod("d/e", 0o700), os.chmod("other", 0o777)
    probes = [
        lambda: os.unlink("sticky/root"), lambda: os.rename("sticky/root", "sticky/mine"), lambda: put("sticky/own", b"o"), lambda: os.unlink("sticky/own"),
        lambda: get("f")[:3], lambda: put_into("f"), lambda: get("none"), lambda: os.listdir("d/e"), lambda: os.stat("d/e/f"), lambda: put("d/new", b""), lambda: os.chmod("f", 0o777),
        lambda: os.utime("f", ns=(1, 1)), lambda: os.utime("other/o"), lambda: os.truncate("f", 3), lambda: os.unlink("other/o"), lambda: put("other/new", b"n"), lambda: os.stat("other/new").st_uid,
        lambda: os.link("none", "other/l"), lambda: os.link("f", "other/l2"), lambda: os.chown("other/new", 0, 0), lambda: os.rename("other", "d/other"), lambda: os.listdir("closed"),
        lambda: os.setxattr("f", "user.a", b"b"), lambda: os.getxattr("none", "user.a"), lambda: os.mkdir("sticky/dir"), lambda: os.rename("sticky/dir", "other/dir"), lambda: os.access("none", os.R_OK),
    ]
    return [as_user(34, p) for p in probes]


@question
def own_permissions():
    """What the owner closed to himself."""
    if ROOT:
        return None
    os.mkdir("shut", 0o700), put("shut/c", b"c"), os.chmod("shut", 0o300), put("mine", b"m", 0)
    os.chmod("d/e", 0o600), os.chmod("other", 0o500)
    fd = os.open("f", os.O_RDWR)
    os.chmod("f", 0o400)
    return [
        tried(get, "none"), tried(os.open, "ro", os.O_RDWR), tried(os.open, "ro", os.O_RDONLY | os.O_TRUNC), tried(os.truncate, "ro", 1), tried(listing, "closed"), tried(listing, "shut"), tried(get, "shut/c"), tried(put, "shut/n"), tried(put_into, "other/o"), tried(os.rename, "shut", "shut2"), tried(os.chmod, "mine", 0o600), get("mine"),
        tried(get, "d/e/f"), tried(listing, "d/e"), tried(put, "other/n", b""), tried(os.unlink, "other/o"), tried(os.rename, "other", "other2"), tried(os.rename, "other2/o", "o"),
        os.pwrite(fd, b"still", 0), tried(os.open, "f", os.O_WRONLY), os.access("none", os.R_OK), os.access("x", os.X_OK), os.access("f", os.X_OK), tried(os.unlink, "ro"),
        tried(os.utime, "shut2"), tried(os.chmod, "d/e", 0o755), tried(os.rename, "d", "dd"), tried(os.setxattr, "f", "user.a", b"b"), tried(os.mknod, "dev", 0o600 | stat.S_IFBLK, os.makedev(1, 3)), tried(os.chmod, "f", 0o2777), oct(os.stat("f").st_mode),
    ]


@question
def limits():
    def inside():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        fd = os.open("f", os.O_RDWR)
        return [tried(os.pwrite, fd, b"x" * 100, 19_950), tried(os.pwrite, fd, b"x", 20_000), tried(os.ftruncate, fd, 20_001), tried(os.truncate, "g", 30_000), tried(os.ftruncate, fd, 20_000),
                tried(call, "fallocate", fd, 0, ctypes.c_long(0), ctypes.c_long(30_000)), os.fstat(fd).st_size]

    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)), resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            os.pwrite(os.open("f", os.O_WRONLY), b"x", 100)
        finally:
            os._exit(0)
    return in_child(inside), os.waitpid(pid, 0)[1] & 0x7F


@question
def names():
    odd = [b"new\nline", b"\xff\xfe\x80", b" -rf \t*?", b"L" * 255]
    answers = [get(n) for n in odd]
    for n in odd:
        put_into(n)
        os.rename(n, b"d/" + n)
    answers += [listing("d"), tried(os.stat, "n" * 256), tried(os.mkdir, "n" * 256), tried(os.stat, "d/" + "n/" * 2100), tried(os.rename, "f", "n" * 256), tried(os.symlink, "x" * 4096, "l"), tried(os.symlink, "", "l")]
    os.symlink("x" * 4095, "long")
    answers += [os.lstat("long").st_size, len(os.readlink("long")), tried(os.stat, "long"), tried(os.open, "loop1", os.O_RDONLY), tried(os.stat, "loop1"), tried(os.mkdir, "loop2/x"), os.readlink("loop1")]
    answers += [tried(os.unlink, "d"), tried(os.rmdir, "d"), tried(os.rmdir, "f"), tried(os.rmdir, "."), tried(os.rmdir, "void/."), tried(os.rmdir, "d/.."), tried(os.mkdir, "d"), tried(os.mkdir, "ln"),
                tried(os.unlink, ""), tried(os.mkdir, "missing/x"), tried(os.mkdir, "f/x"), tried(os.unlink, "f/"), tried(os.mkdir, "slash/"), tried(os.symlink, "a", "slash2/")]
    return answers


@question
def opening():
    flags = [("f", os.O_WRONLY | os.O_CREAT | os.O_EXCL), ("ln", os.O_RDONLY | os.O_NOFOLLOW), ("f", os.O_RDONLY | os.O_DIRECTORY), ("d", os.O_RDONLY | os.O_DIRECTORY), ("d", os.O_WRONLY), ("dirlink/a", os.O_RDWR),
             ("dangling", os.O_WRONLY | os.O_CREAT | os.O_EXCL), ("dangling", os.O_WRONLY | os.O_CREAT), ("nowhere", os.O_RDONLY), ("d/missing", os.O_RDONLY), ("f/x", os.O_RDONLY | os.O_CREAT), ("d", os.O_RDONLY | os.O_CREAT),
             ("fifo", os.O_WRONLY | os.O_NONBLOCK), ("fifo", os.O_RDONLY | os.O_NONBLOCK), ("f", os.O_WRONLY | os.O_SYNC), ("f", os.O_RDWR | os.O_TRUNC), ("loop1", os.O_CREAT | os.O_WRONLY), ("new/", os.O_CREAT | os.O_WRONLY), ("f", os.O_PATH)]
    answers = []
    for path, how in flags:
        fd = tried(os.open, path, how, 0o640)
        answers.append((path, fd if isinstance(fd, str) else (oct(os.fstat(fd).st_mode), os.fstat(fd).st_size)))
    path = os.open("g", os.O_PATH)
    answers += [get("/proc/self/fd/%d" % path), tried(os.read, path, 1), tried(os.fchmod, path, 0o600), tried(os.fsync, path), oct(os.lstat("nowhere").st_mode)]
    return answers


@question
def listings_with_positions():
    libc.fdopendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long

    def read(stream):
        entry = libc.readdir(ctypes.c_void_p(stream))
        return ctypes.string_at(entry + 19) if entry else None

    stream = libc.fdopendir(os.open("many", os.O_RDONLY))
    at = ctypes.c_void_p(stream)
    places, order = [], []
    while True:
        place = libc.telldir(at)
        name = read(stream)
        if name is None:
            break
        places.append(place), order.append(name)
    right = all((libc.seekdir(at, ctypes.c_long(places[i])), read(stream) == order[i])[1] for i in (*range(0, 302, 7), 301, 0, 150))
    put("many/zz-added", b"")
    libc.rewinddir(at)
    again = []
    while (name := read(stream)) is not None:
        again.append(name)
    return len(order), len(set(order)), right, len(again), b"zz-added" in again, len(set(places)) == len(places)


def pieces(fd, size):
    """Names as getdents64 gives them, a small buffer at a time."""
    buffer = ctypes.create_string_buffer(size)
    while got := libc.syscall(217, fd, buffer, size):
        if got < 0:
            raise OSError(ctypes.get_errno(), "getdents64")
        at = 0
        while at < got:
            length = int.from_bytes(buffer.raw[at + 16:at + 18], "little")
            name = buffer.raw[at + 19:at + length].split(b"\0")[0]
            at += length
            if name not in (b".", b".."):
                yield name


@question
def listings_while_entries_come_and_go():
    fd, seen = os.open("many", os.O_RDONLY), []
    for n, name in enumerate(pieces(fd, 400)):
        seen.append(name)
        if n % 3 == 0:
            os.close(os.open(b"many/come-%d" % n, os.O_CREAT | os.O_WRONLY)), os.chmod(b"many/" + name, 0o600)
        if n > 2000:
            break
    old = [n for n in seen if n.startswith(b"entry")]
    removed = 0
    for name in pieces(os.open("many", os.O_RDONLY), 400):
        os.unlink(b"many/" + name)
        removed += 1
    left = listing("many")
    return len(old), len(set(old)), len(seen) == len(set(seen)), left, tried(os.rmdir, "many")


@question
def removing_trees():
    subprocess.run(["rm", "-rf", "d", "many", "other", "sticky"], check=True)
    os.mkdir("d")
    return listing("d"), listing(), subprocess.run(["rm", "-r", "closed"], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL).returncode if not ROOT else 0


@question
def deep_paths():
    here, step, depth = os.getcwd(), "d" * 99, 0
    os.chdir("d")
    while depth < 38:
        os.mkdir(step)
        os.chdir(step)
        depth += 1
    put("end", b"deep")
    os.chdir(here)
    deep = "d/" + (step + "/") * 38 + "end"
    answers = [len(deep), get(deep), tried(os.rename, deep, deep + "2"), get(deep + "2"), tried(os.rename, "d/" + step, "other/" + step), get(deep.replace("d/", "other/", 1) + "2")]
    os.chdir("other/" + (step + "/") * 19)
    while depth < 60:
        os.makedirs(step, exist_ok=True)
        os.chdir(step)
        depth += 1
    put("further", b"more")
    answers += [get("further"), tried(os.getcwd) == "ENAMETOOLONG" or len(os.getcwd()) - len(here)]
    os.chdir(here)
    subprocess.run(["rm", "-rf", "other"], check=True)
    return answers, os.path.exists("other")


@question
def attributes():
    long = b"v" * 3000
    answers = [tried(os.setxattr, "f", "user.a", b"1"), tried(os.setxattr, "f", "user.a", b"2", os.XATTR_CREATE), tried(os.setxattr, "f", "user.b", b"2", os.XATTR_REPLACE), tried(os.setxattr, "f", "user.long", long),
               tried(os.getxattr, "f", "user.long") == long, tried(os.getxattr, "f", "user.none"), tried(os.removexattr, "f", "user.none"), tried(os.removexattr, "f", "user.a"), tried(os.setxattr, "f", "user.empty", b""),
               tried(os.setxattr, "f", "user." + "n" * 251, b""), tried(os.setxattr, "f", "user.", b""), tried(os.setxattr, "f", "odd.a", b""), tried(os.setxattr, "ln", "user.a", b"", 0, follow_symlinks=False),
               tried(os.setxattr, "fifo", "user.a", b""), tried(os.setxattr, "d", "user.a", b"d"), tried(os.setxattr, "f", "user.big", b"v" * 70_000), sorted(os.listxattr("f")), os.listxattr("d"), os.listxattr("ln", follow_symlinks=False)]
    os.chmod("f", 0o444)
    answers += [tried(os.setxattr, "f", "user.ro", b"") if not ROOT else 0, tried(libc.getxattr, b"f", b"user.long", None, 0), tried(call, "getxattr", b"f", b"user.long", ctypes.create_string_buffer(10), 10)]
    os.rename("d", "d2"), os.rename("f", "f2")
    return answers, os.getxattr("d2", "user.a"), sorted(os.listxattr("f2"))


@question
def pipes_and_sockets():
    pid = os.fork()
    if pid == 0:
        os.write(os.open("fifo", os.O_WRONLY), b"through")
        os._exit(0)
    got = os.read(os.open("fifo", os.O_RDONLY), 99)
    os.waitpid(pid, 0)
    server, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    server.bind("d/sock"), server.listen(1), client.connect("d/sock")
    client.send(b"hello")
    os.rename("fifo", "fifo2"), os.rename("d", "d2")
    other = socket.socket(socket.AF_UNIX)
    return got, server.accept()[0].recv(9), oct(os.lstat("fifo2").st_mode), stat.S_ISSOCK(os.lstat("d2/sock").st_mode), tried(other.connect, "d2/sock"), tried(server.bind, "d2/sock")


@question
def programs():
    put("late", b"#!/bin/sh\necho late\n", 0o755)
    with open("/bin/true", "rb") as file:
        put("true", file.read(), 0o755)
    ran = [subprocess.run([p], stdout=subprocess.PIPE).stdout for p in ("./x", "./late", "./true")]
    with open("/bin/sleep", "rb") as file:
        put("nap", file.read(), 0o755)
    nap = subprocess.Popen(["./nap", "5"])
    time.sleep(0.1)
    busy = tried(os.open, "nap", os.O_WRONLY), tried(os.truncate, "nap", 0)
    os.unlink("nap")
    nap.kill(), nap.wait()
    writing = os.open("true", os.O_RDWR)
    return ran, busy, tried(subprocess.run, ["./true"]), tried(subprocess.run, ["./f"])


@question
def watching():
    fd = call("inotify_init1", os.O_NONBLOCK)
    call("inotify_add_watch", fd, b".", 0xFFF & ~0x1)
    put("n", b"x"), os.rename("n", "m"), os.unlink("m"), os.mkdir("n"), os.chmod("f", 0o600)
    events, at = os.read(fd, 1 << 16), 0
    told = []
    while at < len(events):
        length = int.from_bytes(events[at + 12:at + 16], "little")
        told.append((hex(int.from_bytes(events[at + 4:at + 8], "little")), events[at + 16:at + 16 + length].rstrip(b"\0")))
        at += 16 + length
    return told


@question
def syncing():
    fd, d = os.open("f", os.O_RDWR), os.open("d", os.O_RDONLY)
    os.pwrite(fd, b"x", 1)
    return [tried(os.fsync, fd), tried(os.fdatasync, fd), tried(os.fsync, d), tried(call, "syncfs", fd), tried(call, "sync_file_range", fd, ctypes.c_long(0), ctypes.c_long(100), 7), tried(os.posix_fadvise, fd, 0, 0, 4),
            tried(os.fsync, os.open("g", os.O_RDONLY)), tried(os.pwritev, fd, [b"abc"], 0, 0x2), tried(os.pwritev, fd, [b"end"], 0, 0x10), os.stat("f").st_size, os.statvfs(".").f_namemax, tried(os.ftruncate, os.open("f", os.O_RDONLY), 1)]


@question
def truncating():
    fd = os.open("f", os.O_RDWR)
    os.ftruncate(fd, 5000), os.ftruncate(fd, 9000)
    zeros = os.pread(fd, 4000, 5000) == bytes(4000)
    os.ftruncate(fd, 0), os.pwrite(fd, b"z", 4999)
    other = os.open("g", os.O_WRONLY | os.O_TRUNC)
    os.truncate("hl1", 3)
    with open("d/a", "r+b") as file:
        file.truncate(1)
    return zeros, short(get("f")), os.fstat(other).st_size, get("hl2"), get("d/a"), tried(os.truncate, "d", 0), tried(os.truncate, "missing", 0), tried(os.truncate, "dirlink/b", 2), get("d/b")


def main():
    verb, at = sys.argv[1], os.path.abspath(sys.argv[2])
    os.umask(0o022)
    chosen = [q for q in questions.QUESTIONS if len(sys.argv) < 4 or q.__name__ == sys.argv[3]]
    where = "there" if verb == "build" else "fresh"
    os.makedirs(os.path.join(at, where), exist_ok=True)
    for ask in chosen:
        build(os.path.join(at, where, ask.__name__), many="list" in ask.__name__ or "removing" in ask.__name__)
    for kind in ("there", "fresh") if verb == "ask" else ():
        for ask in chosen:
            os.chdir(os.path.join(at, kind, ask.__name__))
            try:
                answer = ask()
            except BaseException as error:
                line = error.__traceback__.tb_next.tb_lineno if error.__traceback__.tb_next else 0
                answer = "%s: %r in line %d" % (type(error).__name__, str(error), line)
            print("%s %s: %s" % (kind, ask.__name__, answer), flush=True)


main()
