"""Asks a directory how it behaves and prints one line a question, so that merged can be compared with a plain directory.

questions_more.py build DIR   makes the objects that the questions are about, one set for each
questions_more.py ask DIR     asks every question twice: of the set that was there, and of one made now in DIR/fresh
An answer is what the calls returned or the name of the error; whatever differs from run to run is left out."""
import ctypes, errno, fcntl, hashlib, mmap, os, signal, socket, stat, struct, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)
QUESTIONS = []
CONTENT = b"0123456789abcdef" * 640
AT_FDCWD, NOREPLACE, EXCHANGE = -100, 1, 2
BIG = 9 << 29


def question(ask):
    QUESTIONS.append(ask)
    return ask


def call(name, *args):
    result = getattr(libc, name)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def tried(act, *args, **named):
    """What a call returned, or the name of its error."""
    try:
        return act(*args, **named)
    except OSError as error:
        return errno.errorcode[error.errno]


def put(path, content=CONTENT, mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, content)
    os.fchmod(fd, mode)
    os.close(fd)


def get(path):
    with open(path, "rb") as file:
        return file.read()


def short(content):
    return "%d:%s" % (len(content), hashlib.sha256(content).hexdigest()[:8])


def build(at, many):
    os.makedirs(at)
    os.chmod(at, 0o755)
    here = os.getcwd()
    os.chdir(at)
    put("f"), put("g", b"g\n"), put("empty", b""), put("ro", b"ro\n", 0o444), put("none", b"none\n", 0), put("x", b"#!/bin/sh\necho ran\n", 0o755)
    put("setid", b"x", 0o755), put("hl1", b"two names\n")
    os.link("hl1", "hl2")
    for path in ("d", "d/e", "d/e/deep", "other", "void", "setgid", "sticky", "closed"):
        os.mkdir(path)
    for path in ("d/a", "d/b", "d/c", "d/e/f", "d/e/deep/g", "other/o", "closed/c"):
        put(path, path.encode())
    os.chmod("setgid", 0o2775), os.chmod("sticky", 0o1777), os.chmod("closed", 0o300)
    os.symlink("f", "ln"), os.symlink("nowhere", "dangling"), os.symlink("loop2", "loop1"), os.symlink("loop1", "loop2")
    os.symlink("d", "dirlink"), os.mkfifo("fifo", 0o640)
    put(b"new\nline", b"n"), put(b"\xff\xfe\x80", b"u"), put(b" -rf \t*?", b"s"), put(b"L" * 255, b"l")
    os.mkdir("many")
    for n in range(300 if many else 0):
        os.close(os.open("many/entry-with-a-name-%04d" % n, os.O_CREAT | os.O_WRONLY, 0o644))
    fd = os.open("big", os.O_WRONLY | os.O_CREAT, 0o644)
    os.pwrite(fd, b"begin", 0), os.pwrite(fd, b"middle", BIG), os.ftruncate(fd, BIG + 100_000)
    os.close(fd)
    if os.geteuid() == 0:
        os.chown("setid", 12, 13)
    os.chmod("setid", 0o6755)
    os.chdir(here)


def listing(path="."):
    return sorted(os.listdir(os.fsencode(path)))


def in_child(act):
    """What `act` answers in another process."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = repr(tried(act))
        except BaseException as error:
            answer = repr(error)
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    answer = b""
    while piece := os.read(read, 65536):
        answer += piece
    os.close(read)
    os.waitpid(pid, 0)
    return answer.decode()


def rename2(old, new, flags):
    call("renameat2", AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)


@question
def write_after_chmod():
    fd = os.open("f", os.O_RDWR)
    os.chmod("f", 0o444)
    os.pwrite(fd, b"XX", 5), os.ftruncate(fd, 9000)
    again = tried(os.open, "f", os.O_WRONLY) if os.geteuid() else "root"
    os.chmod("f", 0)
    os.pwrite(fd, b"YY", 50)
    s = os.fstat(fd)
    return short(os.pread(fd, 1 << 20, 0)), oct(s.st_mode), s.st_nlink, again, os.fsync(fd)


@question
def write_after_unlink():
    fd, before = os.open("f", os.O_RDWR), os.stat("f").st_ino
    os.unlink("f")
    os.pwrite(fd, b"XX", 5), os.ftruncate(fd, 20_000), os.fchmod(fd, 0o640), os.utime(fd, ns=(5, 7))
    s = os.fstat(fd)
    again = os.open("/proc/self/fd/%d" % fd, os.O_RDWR)
    os.pwrite(again, b"again", 100)
    link = tried(call, "linkat", AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, b"back", 0x400)
    os.setxattr(fd, "user.t", b"v")
    return (s.st_nlink, s.st_size, oct(s.st_mode), s.st_mtime_ns, s.st_ino == before, short(os.pread(fd, 1 << 20, 0)), link,
            os.getxattr(fd, "user.t"), os.lseek(fd, 0, os.SEEK_END), os.fsync(fd), tried(os.stat, "f"), "f" in os.listdir("."))


@question
def read_after_unlink_and_reuse():
    fd = os.open("f", os.O_RDONLY)
    os.unlink("f")
    put("f", b"another")
    return short(os.pread(fd, 1 << 20, 0)), get("f"), os.fstat(fd).st_nlink, os.fstat(fd).st_ino != os.stat("f").st_ino


@question
def write_after_rename():
    fd = os.open("d/e/f", os.O_RDWR | os.O_APPEND)
    os.rename("d/e/f", "d/moved"), os.rename("d", "elsewhere")
    os.write(fd, b"+tail")
    os.rename("elsewhere/moved", "g")
    os.write(fd, b"+more")
    return get("g"), os.fstat(fd).st_nlink, listing("elsewhere"), tried(os.stat, "d")


@question
def write_when_the_parent_is_gone():
    fd, lower = os.open("d/e/deep/g", os.O_RDWR), os.open("d/e/deep", os.O_RDONLY | os.O_DIRECTORY)
    os.unlink("d/e/deep/g"), os.rmdir("d/e/deep"), os.unlink("d/e/f"), os.rmdir("d/e")
    os.pwrite(fd, b"late", 0), os.ftruncate(fd, 6), os.fchmod(fd, 0o600)
    made = tried(os.open, "new", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=lower)
    return os.pread(fd, 99, 0), os.fstat(fd).st_nlink, made, os.listdir(lower), tried(os.stat, "..", dir_fd=lower) == "ENOENT", os.fsync(fd)


@question
def a_working_directory_that_goes():
    def inside():
        os.chdir("d/e/deep")
        os.unlink("g"), os.rmdir("../deep")
        return tried(os.getcwd), tried(os.mkdir, "n"), tried(os.listdir, "."), tried(os.open, "n", os.O_CREAT | os.O_RDWR)

    return in_child(inside)


@question
def a_working_directory_that_moves():
    def inside():
        top = os.getcwd()
        os.chdir("d/e")
        os.rename("../../d", "../../moved")
        put("made", b"m")
        return os.getcwd()[len(top):], listing(), get(top + "/moved/e/made"), get("f")

    return in_child(inside)


@question
def an_old_fd_sees_new_writes():
    old = os.open("f", os.O_RDONLY)
    view = mmap.mmap(old, 100, mmap.MAP_SHARED, mmap.PROT_READ)
    first, number = view[:4], os.fstat(old).st_ino
    new = os.open("f", os.O_WRONLY)
    os.pwrite(new, b"NEW!", 0)
    s = os.fstat(old)
    return first, view[:4], os.pread(old, 4, 0), s.st_ino == number == os.stat("f").st_ino, s.st_size, in_child(lambda: os.pread(old, 6, 0))


@question
def numbers_stay():
    paths = ["f", "hl1", "d", "d/e", "d/e/f", "ln", "fifo", "ro", "setgid"]
    before = [os.lstat(p).st_ino for p in paths]
    os.chmod("f", 0o600), os.chmod("hl2", 0o600), os.chmod("d/e", 0o700), os.utime("ro", ns=(1, 1)), os.chmod("fifo", 0o600)
    put("d/e/f2", b"x")
    after = [os.lstat(p).st_ino for p in paths]
    os.rename("d", "d2"), os.rename("f", "f2"), rename2("d2", "setgid", EXCHANGE)
    moved = [os.lstat(p).st_ino for p in ("f2", "hl1", "setgid", "setgid/e", "setgid/e/f", "ln", "fifo", "ro", "d2")]
    return before == after, before == moved, len(set(before)) == len(before)


@question
def listed_numbers_and_types():
    wrong = []
    for at in (".", "d", "many"):
        with os.scandir(at) as entries:
            for entry in entries:
                s = os.lstat(entry.path)
                if entry.inode() != s.st_ino or entry.is_dir(follow_symlinks=False) != stat.S_ISDIR(s.st_mode) or entry.is_symlink() != stat.S_ISLNK(s.st_mode):
                    wrong.append(entry.path)
    return wrong


@question
def renames():
    every = []
    for old, new, flags in [
        ("f", "g", NOREPLACE), ("f", "fresh", NOREPLACE), ("fresh", "f", 0), ("f", "d", 0), ("d", "f", 0), ("d", "other", 0), ("d", "d/e/in", 0),
        ("d/e", "d", 0), ("d", "void", 0), ("void", "d", 0), ("f", "d", EXCHANGE), ("f", "d/e", EXCHANGE), ("f", "missing", EXCHANGE), ("hl1", "hl2", 0),
        ("hl1", "hl2", EXCHANGE), ("hl1", "hl2", NOREPLACE), ("f", "g", NOREPLACE | EXCHANGE), ("missing", "f", 0), ("f", "f", 0), ("f", "f", NOREPLACE),
        ("d", "d", 0), ("ln", "dangling", 0), ("fifo", "g", EXCHANGE), ("f/", "y", 0), ("other", "y/", 0), ("other", "f/", 0), ("x", "y/x", 0), ("y", "y/o/z", 0),
        ("d", "n" * 256, 0), ("f", "n" * 255, 0), (".", "z", 0), ("d/..", "z", 0), ("f", "ro", 0), ("f", "g", 8),
    ]:
        every.append(tried(rename2, old, new, flags))
    return every, listing(), listing("y"), listing("void") if os.path.isdir("void") else None


@question
def directories_that_moved_and_came_again():
    os.rename("d", "d2")
    os.mkdir("d")
    empty = listing("d")
    put("d/own", b"x")
    rename2("d", "d2", EXCHANGE)
    after = listing("d"), listing("d2"), listing("d/e"), get("d/e/deep/g")
    os.rename("other", "d/e/other")
    os.unlink("d2/own"), os.rmdir("d2"), os.mkdir("d2"), os.rename("d/e", "d2/e")
    return empty, after, listing("d2/e"), listing("d"), tried(os.rmdir, "d2"), listing("d2/e/other")


@question
def replaced_while_open():
    fd, victim = os.open("g", os.O_RDWR), os.open("void", os.O_RDONLY)
    os.rename("f", "g"), os.rename("d", "void")
    os.pwrite(fd, b"old", 0)
    return os.pread(fd, 9, 0), os.fstat(fd).st_nlink, short(get("g")), listing("void"), os.listdir(victim), os.fstat(victim).st_nlink == 0


@question
def hard_links():
    os.link("hl1", "d/third"), os.link("f", "f2")
    fd = os.open("hl2", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"more")
    counts = [os.stat(p).st_nlink for p in ("hl1", "hl2", "d/third", "f", "f2")]
    same = len({os.stat(p).st_ino for p in ("hl1", "hl2", "d/third")})
    os.unlink("hl1"), os.rename("hl2", "d/e/hl2"), os.rename("d", "dd")
    left = os.stat("dd/third").st_nlink, get("dd/third"), get("dd/e/hl2")
    os.link("ln", "ln2", follow_symlinks=False)
    os.unlink("dd/third"), os.unlink("dd/e/hl2")
    return (counts, same, left, os.readlink("ln2"), os.lstat("ln2").st_nlink, tried(os.link, "dd", "x2"), tried(os.link, "f", "g"), os.fstat(fd).st_nlink,
            tried(os.link, "missing", "y"), tried(os.link, "f", "y/z"), tried(call, "linkat", os.open("f", os.O_PATH), b"", AT_FDCWD, b"f3", 0x1000) if os.geteuid() == 0 else 0)


@question
def several_appenders():
    def append(n):
        fd = os.open("empty", os.O_WRONLY | os.O_APPEND)
        for i in range(200):
            os.write(fd, b"%d %03d " % (n, i) + b"%d" % n * 50 + b"\n")

    pids = []
    for n in range(4):
        pids.append(os.fork())
        if pids[-1] == 0:
            append(n)
            os._exit(0)
    for pid in pids:
        os.waitpid(pid, 0)
    lines = get("empty").split(b"\n")
    return len(lines), all(line.endswith(line[:1] * 50) for line in lines if line), sorted({len(line) for line in lines})


@question
def direct_io():
    fd = os.open("f", os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, 8192)
    buffer[:] = b"D" * 8192
    wrote = os.pwrite(fd, buffer, 4096)
    into = mmap.mmap(-1, 4096)
    got = os.preadv(fd, [into], 8192)
    return wrote, got, into[:5], short(get("f")), os.stat("f").st_size


@question
def shared_mappings():
    fd = os.open("f", os.O_RDWR)
    view = mmap.mmap(fd, len(CONTENT))
    view[10:14] = b"MMAP"
    seen = os.pread(fd, 20, 0)
    os.pwrite(fd, b"PWRITE", 20)
    back = view[20:26]

    def child():
        view[100:105] = b"CHILD"
        return view[10:14]

    other = in_child(child)
    view.flush()
    before = os.stat("f").st_mtime_ns
    time.sleep(0.02)
    view[0:1] = b"!"
    view.flush()
    os.fsync(fd)
    later = os.stat("f").st_mtime_ns > before
    os.ftruncate(fd, 50)

    def beyond():
        signal.alarm(5)
        return view[5000:5001]

    pid = os.fork()
    if pid == 0:
        beyond()
        os._exit(0)
    died = os.waitpid(pid, 0)[1]
    readonly = tried(mmap.mmap, os.open("ro", os.O_RDONLY), 3, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    return seen, back, other, later, died, short(get("f")), readonly, mmap.mmap(os.open("ro", os.O_RDONLY), 3, mmap.MAP_PRIVATE)[:]


@question
def unlinked_mappings():
    fd = os.open("f", os.O_RDWR)
    view = mmap.mmap(fd, len(CONTENT))
    os.close(fd), os.unlink("f")
    view[0:3] = b"new"
    view.flush()
    return view[:6], view[9000:9005]


def lock(path, how, start=0, length=0, kind=fcntl.F_WRLCK):
    fd = os.open(path, os.O_RDWR)
    if how == "flock":
        return fd, lambda flags: fcntl.flock(fd, flags)
    wait = {"posix": fcntl.F_SETLK, "ofd": 37}[how]
    return fd, lambda k: fcntl.fcntl(fd, wait, struct.pack("hhqqi4x", k, 0, start, length, 0)) and 0


@question
def flocks():
    fd, take = lock("f", "flock")
    other = lambda: lock("f", "flock")[1](fcntl.LOCK_EX | fcntl.LOCK_NB)
    share = lambda: lock("f", "flock")[1](fcntl.LOCK_SH | fcntl.LOCK_NB)
    take(fcntl.LOCK_EX)
    os.write(fd, b"x")
    answers = [in_child(other), in_child(share), tried(other)]
    os.rename("f", "f2"), os.link("f2", "f")
    answers.append(in_child(other))
    take(fcntl.LOCK_SH)
    answers += [in_child(other), in_child(share)]
    take(fcntl.LOCK_UN)
    return answers + [in_child(other), tried(fcntl.flock, os.open("d", os.O_RDONLY), fcntl.LOCK_EX)]


@question
def record_locks():
    answers = []
    for how in ("posix", "ofd"):
        fd, take = lock("f", how, 10, 10)
        take(fcntl.F_WRLCK)
        for start, length in ((0, 10), (15, 1), (20, 5), (0, 0)):
            answers.append(in_child(lambda: lock("f", "posix", start, length)[1](fcntl.F_WRLCK)))
            answers.append(in_child(lambda: lock("f", "ofd", start, length)[1](fcntl.F_RDLCK)))
        os.pwrite(fd, b"under the lock", 0)
        ask = lambda: struct.unpack("hhqqi4x", fcntl.fcntl(os.open("f", os.O_RDWR), fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)))[:4]
        answers.append(in_child(ask))
        take(fcntl.F_UNLCK)
        answers.append(in_child(lambda: lock("f", how, 10, 10)[1](fcntl.F_WRLCK)))
    return answers


@question
def leases():
    return tried(fcntl.fcntl, os.open("g", os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)


@question
def allocation():
    # Collapsing and inserting ranges, the kernel refuses for any FUSE (fs/fuse/file.c, fuse_file_fallocate).
    every = []
    for name, mode in [("allocate", 0), ("keep", 1), ("punch", 3), ("zero", 0x10), ("zero keep", 0x11), ("odd", 0x7), ("punch only", 2)]:
        path = "alloc"
        put(path, CONTENT)
        fd = os.open(path, os.O_RDWR)
        done = tried(call, "fallocate", fd, mode, ctypes.c_long(5000), ctypes.c_long(9000))
        every.append((name, done, os.fstat(fd).st_size, short(get(path))))
        os.unlink(path)
    fd = os.open("f", os.O_RDWR)
    every.append(tried(call, "fallocate", fd, 3, ctypes.c_long(0), ctypes.c_long(4096)))
    every.append(tried(call, "fallocate", os.open("g", os.O_RDONLY), 0, ctypes.c_long(0), ctypes.c_long(9)))
    every.append(tried(call, "fallocate", fd, 0, ctypes.c_long(-1), ctypes.c_long(9)))
    every.append(tried(os.posix_fallocate, fd, 0, 50_000))
    return every, short(get("f")), os.stat("f").st_size


@question
def holes():
    fd = os.open("big", os.O_RDWR)
    at = lambda: [tried(os.lseek, fd, o, w) for o, w in ((0, os.SEEK_HOLE), (1 << 20, os.SEEK_DATA), (BIG, os.SEEK_HOLE), (BIG + 90_000, os.SEEK_DATA), (BIG * 2, os.SEEK_DATA), (BIG * 2, os.SEEK_HOLE))]
    before, sparse = at(), os.fstat(fd).st_blocks < 1000
    os.pwrite(fd, b"x", 3)
    return before, at(), sparse, os.fstat(fd).st_blocks < 1000, os.pread(fd, 6, BIG), os.pread(fd, 6, 0)


@question
def large_files():
    fd = os.open("big", os.O_RDWR)
    size = os.fstat(fd).st_size
    os.ftruncate(fd, (1 << 32) + 10)
    os.pwrite(fd, b"far", (3 << 32) + 5000)
    os.lseek(fd, -3, os.SEEK_END)
    end = os.read(fd, 9)
    view = mmap.mmap(fd, 4096, offset=3 << 32)
    view[100:104] = b"mmap"
    os.fsync(fd)
    return size, os.fstat(fd).st_size, end, os.pread(fd, 3, BIG), os.pread(fd, 5, 0), tried(os.ftruncate, fd, -1), tried(os.ftruncate, fd, 1 << 62) != None


@question
def copying_ranges():
    put("to", b"")
    source, target = os.open("f", os.O_RDWR), os.open("to", os.O_RDWR)
    one = os.copy_file_range(source, target, 5000, 100, 10)
    half = os.copy_file_range(source, source, 2000, 0, 5000)
    tried_overlap = tried(os.copy_file_range, source, source, 2000, 0, 10)
    end = os.copy_file_range(source, target, 99, 1 << 30, 0)
    os.lseek(target, 0, os.SEEK_END)
    sent = os.sendfile(target, os.open("d/a", os.O_RDONLY), 0, 100)
    piped, pipe = os.pipe()
    spliced = os.splice(source, pipe, 300, offset_src=7), os.splice(piped, target, 300, offset_dst=6000)
    big = tried(os.copy_file_range, os.open("big", os.O_RDONLY), target, 4096, BIG, 0)
    return one, half, tried_overlap, end, sent, spliced, big, short(get("to")), short(get("f")), tried(fcntl.ioctl, target, 0x40049409, source) != 0
