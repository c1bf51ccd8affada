"""Merged under stress and in want: robust.py VERB DIR [WORDS]. Ends with an exception where it is not as a local file system would be."""
import ctypes, errno, hashlib, os, random, shutil, sys, threading

verb, at = sys.argv[1:3]
words = sys.argv[3:]


def fails(number, act):
    try:
        act()
    except OSError as error:
        assert error.errno == number, error
        return
    raise AssertionError("it did not fail with %s" % errno.errorcode[number])


def get(path):
    with open(path, "rb") as file:
        return file.read()


def put(path, content, mode="wb"):
    with open(path, mode, buffering=0) as file:
        assert file.write(content) == len(content)


def descriptors():
    """More files at once than the daemon may have open: read, written, unlinked and in use, from several threads."""
    names = ["many/%d" % n for n in range(800)]
    os.chdir(at)

    def read():
        for name in random.sample(names, len(names)):
            assert get(name) == name.encode()

    def write(own):
        for n in range(300):
            os.makedirs("own/%s/%d" % (own, n)), put("own/%s/%d/f" % (own, n), b"x")
            put(names[(n * 7 + ord(own)) % 800], b"", "ab")
            os.rename("own/%s/%d" % (own, n), "own/%s/m%d" % (own, n))

    failed = []

    def thread(act, *words):
        try:
            act(*words)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=thread, args=a) for a in ((read,), (read,), (write, "a"), (write, "b"))]
    [t.start() for t in threads], [t.join() for t in threads]
    assert not failed, failed
    # Each of these needs one of the daemon's for as long as it is in use; so many it has.
    held = [open("many/%d" % n, "r+b", buffering=0) for n in range(60)]
    for n, file in enumerate(held):
        os.unlink("many/%d" % n)
        file.seek(0, 2), file.write(b"more")
        assert os.fstat(file.fileno()).st_nlink == 0
    for n, file in enumerate(held):
        file.seek(0)
        assert file.read() == b"many/%dmore" % n
    assert len(os.listdir("many")) == 740 and len(os.listdir("own/a")) == 300
    shutil.rmtree("own")


def full():
    """The file system that takes the writes runs full, or its quota: each thing fails with just that and leaves what was there."""
    number = getattr(errno, words[0])
    os.chdir(at)
    before = {path: hashlib.sha256(get(path)).digest() for path in ("big", "tree/a", "tree/sub/b", "tree/sub/c")}
    fd, written, piece = os.open("fill", os.O_WRONLY | os.O_CREAT), 0, os.urandom(1 << 20)
    try:
        while True:
            written += os.write(fd, piece)
    except OSError as error:
        assert error.errno == number, error
    assert os.fstat(fd).st_size == written > 1 << 20, (os.fstat(fd).st_size, written)
    content = get("fill")
    assert all(content[n : n + len(piece)] == piece[: len(content) - n] for n in range(0, written, len(piece)))
    for _ in range(3):
        fails(number, lambda: put("big", b"x", "r+b"))
        fails(number, lambda: os.rename("tree", "moved"))
        fails(number, lambda: os.truncate("big", 3 << 20))
        fails(number, lambda: os.pwrite(fd, piece, written))
    for path, digest in before.items():
        assert hashlib.sha256(get(path)).digest() == digest, path
    assert not os.path.exists("moved") and sorted(os.listdir("tree")) == ["a", "sub"]
    # As many new files and directories as go in, and no half ones.
    made = 0
    try:
        while made < 100000:
            os.mkdir("new%d" % made), put("new%d/f" % made, b"f" * 5000)
            made += 1
    except OSError as error:
        assert error.errno == number, error
    assert all(get("new%d/f" % n) == b"f" * 5000 for n in range(made))
    os.close(fd), os.unlink("fill")
    put("big", b"y", "r+b"), os.rename("tree", "moved"), os.truncate("big", 3 << 20)
    assert get("big")[:1] == b"y" and os.stat("big").st_size == 3 << 20
    for path in ("tree/a", "tree/sub/b", "tree/sub/c"):
        assert hashlib.sha256(get(path.replace("tree", "moved"))).digest() == before[path], path
    assert not os.path.exists("tree")


libc = ctypes.CDLL(None, use_errno=True)


class Entry(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("len", ctypes.c_ushort), ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]


libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Entry)
libc.readdir.argtypes = libc.telldir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


def many():
    """A directory with very many entries."""
    count = int(words[0])
    os.chdir(at)
    os.mkdir("fresh")
    for dir in ("lower", "fresh"):
        if dir == "fresh":
            for n in range(count):
                os.close(os.open("fresh/s%d" % n, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        stable = {"s%d" % n for n in range(count)}
        assert set(os.listdir(dir)) == stable
        # While others come and go each of these comes once.
        done, rounds = threading.Event(), []

        def come_and_go():
            n = 0
            while not done.is_set():
                n += 1
                put("%s/t%d" % (dir, n % 50), b""), os.path.exists("%s/t%d" % (dir, (n + 25) % 50)) and os.unlink("%s/t%d" % (dir, (n + 25) % 50))
            rounds.append(n)

        busy = threading.Thread(target=come_and_go)
        busy.start()
        for _ in range(3):
            seen = [e.name for e in os.scandir(dir)]
            assert sorted(s for s in seen if s[0] == "s") == sorted(stable)
            assert len(seen) == len(set(seen))
        done.set(), busy.join()
        assert rounds[0] > 0
        [os.unlink("%s/t%d" % (dir, n)) for n in range(50) if os.path.exists("%s/t%d" % (dir, n))]
        # Positions stay true.
        stream, places, names = libc.opendir(os.fsencode(dir)), [], []
        while True:
            place, entry = libc.telldir(stream), libc.readdir(stream)
            if not entry:
                break
            places.append(place), names.append(entry.contents.name)
        assert len(names) == count + 2
        for n in random.sample(range(len(names)), 100):
            libc.seekdir(stream, places[n])
            assert libc.readdir(stream).contents.name == names[n], n
        libc.closedir(stream)
        for entry in os.scandir(dir):
            os.unlink(entry.path)
        assert os.listdir(dir) == []
        os.rmdir(dir)


def deep():
    """Paths as long as the kernel takes them, and longer ones step by step."""
    for name, levels in (("n" * 200, 30), ("m" * 9, 395)):
        os.chdir(at)
        top = name + "-top"
        os.mkdir(top), os.chdir(top)
        for _ in range(levels):
            os.mkdir(name), os.chdir(name)
        put("f", b"deep"), os.rename("f", "g"), os.symlink("g", "l")
        assert get("l") == b"deep" and os.stat("g").st_size == 4
        os.chdir(at)
        path = top
        while len(at) + len(path) + len(name) + 10 < 4000:
            path += "/" + name
        path = os.path.join(at, path)
        assert len(path) > 3700
        put(path + "/here", b"here"), os.rename(path + "/here", path + "/there")
        assert get(path + "/there") == b"here" and "there" in os.listdir(path)
        os.rename(top, "moved"), os.rename("moved", top)
        assert get(path + "/there") == b"here"
        fails(errno.ENAMETOOLONG, lambda: os.stat(os.path.join(path, "m" * 256)))
        os.system("rm -rf " + top)
        assert not os.path.exists(top)
    # A long path of lower, which is copied up and moves.
    os.chdir(at)
    path = "low" + ("/" + "d" * 200) * 15
    assert get(path + "/f") == b"lower"
    put(path + "/f", b"!", "ab"), os.rename("low", "high")
    assert get("high" + path[3:] + "/f") == b"lower!"


def huge():
    """Files over 4 GiB, with holes."""
    os.chdir(at)
    end = 5 << 30
    for name in ("sparse", "new"):
        if name == "new":
            with open(name, "wb") as file:
                file.seek(end - 4), file.write(b"tail")
        assert os.stat(name).st_size == end
        with open(name, "r+b", buffering=0) as file:
            assert os.pread(file.fileno(), 8, end - 4) == b"tail"
            os.pwrite(file.fileno(), b"middle", (4 << 30) + 5)
            assert os.pread(file.fileno(), 6, (4 << 30) + 5) == b"middle" and os.pread(file.fileno(), 4, end - 4) == b"tail"
            assert os.pread(file.fileno(), 4, 3 << 30) == bytes(4)
            assert file.seek(0, os.SEEK_DATA) <= (4 << 30) + 5 and file.seek(4 << 30, os.SEEK_DATA) < end
            os.pwrite(file.fileno(), b"more", end), os.ftruncate(file.fileno(), end + 2)
            assert os.pread(file.fileno(), 9, end - 4) == b"tailmo"
        assert os.stat(name).st_blocks < 4096, os.stat(name)
        os.truncate(name, (4 << 30) + 8)
        with open(name, "rb") as file:
            file.seek((4 << 30) + 5)
            assert file.read() == b"mid"


def gone():
    """Lower went away: whatever is answered, it is answered."""
    os.chdir(at)
    numbers = {errno.ENOENT, errno.ESTALE, errno.EIO, errno.ENOSPC, errno.EROFS}
    answered = 0
    for act in (
        lambda: os.listdir("."), lambda: get("plain"), lambda: get("sub/inner"), lambda: get("cold/f"), lambda: os.listdir("cold"), lambda: os.stat("cold"), lambda: put("new", b"n"),
        lambda: put("plain", b"x", "ab"), lambda: os.mkdir("sub/d"), lambda: os.rename("sub", "other"), lambda: os.unlink("plain"), lambda: os.rmdir("cold"), lambda: os.statvfs("."),
        lambda: get("written"), lambda: put("written", b"2"), lambda: os.stat("missing"),
    ):
        try:
            act()
        except OSError as error:
            assert error.errno in numbers | {errno.ENOTEMPTY}, error
        answered += 1
    print("answered", answered)


{"descriptors": descriptors, "full": full, "many": many, "deep": deep, "huge": huge, "gone": gone}[verb]()
