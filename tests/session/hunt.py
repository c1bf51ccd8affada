"""Reads a mounted workspace in every way that a program can, and prints one line for each way that gave away a secret. Knows all secrets,
given as JSON: the file that holds each, and its bytes in hex. What it read goes to the directory `out`, to be searched by others too."""
import ctypes, errno, json, mmap, os, subprocess, sys, threading, time

merged, lower, out = sys.argv[1:4]
planted = json.load(open(sys.argv[4]))
canaries, hidden = ([(name, bytes.fromhex(secret)) for name, secret in planted[kind]] for kind in ("shown", "hidden"))
libc = ctypes.CDLL(None, use_errno=True)
seen, leaks = 0, 0


def check(way, name, secret, data):
    """The secret whole, and the parts of it that no constant prefix explains."""
    global seen, leaks
    seen += len(data)
    middle = len(secret) // 2
    for part in (secret, secret[-10:], secret[middle - 5:middle + 5]):
        if part in data:
            leaks += 1
            print("LEAK", way, name, flush=True)
            return


def at(name):
    return os.path.join(merged, name)


def whole(name):
    with open(at(name), "rb") as f:
        return f.read()


def odd_offsets(name):
    fd, found = os.open(at(name), os.O_RDONLY), b""
    size = os.fstat(fd).st_size
    for step in (1, 7, 13, 61):
        data = b"".join(os.pread(fd, step, i) for i in range(0, size, step))
        found += data + b"\n"
    os.close(fd)
    return found


def mapped(name):
    found = b""
    with open(at(name), "rb") as f:
        for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            with mmap.mmap(f.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as m:
                found += m[:]
    return found


def direct(name):
    fd = os.open(at(name), os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 1 << 16)
    try:
        got = os.preadv(fd, [buffer], 0)
        return buffer[:got]
    finally:
        os.close(fd)


def to_file(copy):
    def way(name):
        source, path = os.open(at(name), os.O_RDONLY), os.path.join(out, "copy")
        target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            copy(source, target, os.fstat(source).st_size)
            return os.pread(target, 1 << 20, 0)
        finally:
            os.close(source)
            os.close(target)
    return way


def inside(name):
    """copy_file_range between two files of the mount."""
    source = os.open(at(name), os.O_RDONLY)
    target = os.open(at("copied-inside"), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.copy_file_range(source, target, os.fstat(source).st_size, 0, 0)
        return os.pread(target, 1 << 20, 0)
    finally:
        os.close(source)
        os.close(target)


def reflink(source, target, size):
    if libc.ioctl(target, 0x40049409, source) == 0:
        return
    os.sendfile(target, source, 0, size)


def spliced(name):
    source, (read, write) = os.open(at(name), os.O_RDONLY), os.pipe()
    found, left = b"", os.fstat(source).st_size
    while left > 0:
        moved = os.splice(source, write, min(left, 4096))
        if moved == 0:
            break
        found, left = found + os.read(read, moved), left - moved
    for fd in (source, read, write):
        os.close(fd)
    return found


def linked(name):
    os.link(at(name), at("a-link"))
    try:
        return whole("a-link")
    finally:
        os.unlink(at("a-link"))


def symlinked(name):
    os.symlink(name, at("a-symlink"))
    try:
        return whole("a-symlink")
    finally:
        os.unlink(at("a-symlink"))


def exchanged(name):
    """The name of a clean file for this one, and back."""
    swap = lambda: libc.renameat2(-100, os.fsencode(at(name)), -100, os.fsencode(at("clean")), 2)
    if swap() != 0:
        return b""
    try:
        return whole("clean")
    finally:
        swap()


def of_unlinked(name):
    fd = os.open(at(name), os.O_RDONLY)
    os.unlink(at(name))
    data = os.pread(fd, 1 << 20, 0)
    os.close(fd)
    return data


def appended(name):
    """Copied up by an append, then read."""
    with open(at(name), "ab") as f:
        f.write(b"more\n")
    return whole(name)


READS = [("read", whole), ("pread", odd_offsets), ("mmap", mapped), ("O_DIRECT", direct),
         ("copy_file_range", to_file(lambda s, t, n: os.copy_file_range(s, t, n, 0, 0))), ("inside", inside),
         ("sendfile", to_file(lambda s, t, n: os.sendfile(t, s, 0, n))), ("reflink", to_file(reflink)),
         ("splice", spliced), ("link", linked), ("symlink", symlinked), ("exchange", exchanged),
         ("append", appended), ("unlinked", of_unlinked)]


def programs():
    tar = subprocess.run(["tar", "-C", merged, "-cf", "-", "."], capture_output=True).stdout
    open(os.path.join(out, "tar"), "wb").write(tar)
    git = lambda *words: subprocess.run(["git", "-c", "safe.directory=*", "-C", merged, *words], capture_output=True)
    git("init", "-q")
    added = git("add", "-A")
    shown = b""
    for line in git("ls-files", "-s").stdout.splitlines():
        shown += git("cat-file", "blob", line.split()[1].decode()).stdout
    grep = subprocess.run(["grep", "-r", "", merged], capture_output=True)
    print("programs", len(tar), len(shown), added.returncode, len(grep.stdout), flush=True)
    for name, secret in canaries + hidden:
        for way, data in (("tar", tar), ("git", shown + added.stderr), ("grep", grep.stdout + grep.stderr)):
            check(way, name, secret, data)


def renamed_parent():
    os.rename(at("canary"), at("renamed"))
    for name, secret in canaries:
        path = name.replace("canary/", "renamed/")
        if os.path.exists(at(path)):
            check("renamed parent", name, secret, whole(path))
    os.rename(at("renamed"), at("canary"))


def absent(what, call, expected=(errno.ENOENT,)):
    """What is hidden is not there, whatever is asked of its name."""
    try:
        call()
    except OSError as error:
        if error.errno in expected:
            return
        print("LEAK by another error", what, error, flush=True)
    else:
        print("LEAK by success", what, flush=True)


def hidden_ones():
    swap = lambda a, b: libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 2) == 0 or raise_errno()
    for name, secret in hidden:
        path = at(name)
        absent("open " + name, lambda: open(path))
        absent("stat " + name, lambda: os.lstat(path))
        absent("list " + name, lambda: os.listdir(path))
        absent("link " + name, lambda: os.link(path, at("a-link")))
        absent("rename " + name, lambda: os.rename(path, at("a-name")))
        absent("exchange " + name, lambda: swap(path, at("clean")))
        absent("unlink " + name, lambda: os.unlink(path))
        absent("xattr " + name, lambda: os.listxattr(path))
        above = os.path.dirname(path)
        if os.path.exists(above) and os.path.basename(name) in os.listdir(above):
            print("LEAK in the listing", name, flush=True)
    for link in ("innocent-link", "innocent-symlink"):
        absent(link, lambda: open(at(link)))
    # By the new name of a directory above, and by a name that is taken over.
    os.rename(at("hide"), at("seek"))
    for name, secret in hidden:
        if name.startswith("hide/"):
            absent("renamed parent of " + name, lambda: open(at(name.replace("hide/", "seek/", 1))))
    os.rename(at("seek"), at("hide"))


def raise_errno():
    raise OSError(ctypes.get_errno(), "renameat2")


def for_the_commands():
    """A damaged mask, which no apply takes, and a mask that was copied."""
    name, secret = canaries[1]
    data = whole(name)
    with open(at("copied-mask"), "wb") as f:
        f.write(data.splitlines(keepends=True)[1] if b"\n" not in secret else data)
    start = open(os.path.join(lower, name), "rb").read().find(secret)
    with open(at(name), "r+b") as f:
        f.seek(start + len(secret) // 2)
        f.write(b"!!")


def host_rewrites(name, secret, text, rewrite, way):
    """The host turns a clean file into a secret one while it is open, mapped and cached here."""
    clean = b"#" * (len(text) - 1) + b"\n"
    with open(os.path.join(lower, name), "wb") as f:
        f.write(clean)
    time.sleep(0.3)
    fd = os.open(at(name), os.O_RDONLY)
    m = mmap.mmap(fd, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    if m[:] != clean:
        print("LEAK for all we know: the clean file reads otherwise", way, name, flush=True)
    stop = []

    def look():
        while not stop:
            check("host " + way, name, secret, m[:] if way != "truncate" else b"")
            check("host " + way, name, secret, os.pread(fd, 1 << 20, 0))
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                check("host " + way, name, secret, direct(name) + whole(name))
            except OSError:
                pass

    looker = threading.Thread(target=look)
    looker.start()
    time.sleep(0.1)
    rewrite(os.path.join(lower, name), text)
    time.sleep(1.2)
    stop.append(1)
    looker.join()
    check("host, after " + way, name, secret, whole(name))
    os.close(fd)


def in_place(path, text):
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, text, 0)
    os.close(fd)


def by_bytes(path, text):
    fd = os.open(path, os.O_WRONLY)
    for i in range(len(text)):
        os.pwrite(fd, text[i:i + 1], i)
    os.close(fd)


def by_rename(path, text):
    open(path + ".new", "wb").write(text)
    os.rename(path + ".new", path)


def by_truncate(path, text):
    with open(path, "wb") as f:
        f.write(text)


def with_old_times(path, text):
    before = os.stat(path)
    in_place(path, text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def by_mapping(path, text):
    """The page is dirty before the file is looked at again: what follows changes no time."""
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[0:1] = m[0:1]
        time.sleep(0.4)
        m[:] = text


WRITES = [("in place", in_place), ("byte by byte", by_bytes), ("rename", by_rename), ("truncate", by_truncate),
          ("old times", with_old_times), ("mapping", by_mapping)]

# First what needs the files as they are in lower; the last ways copy up and delete. What reads a file bit by bit reads a share of them.
hidden_ones()
programs()
renamed_parent()
share = canaries[::max(2, len(canaries) // 30)]
for way, read in READS:
    failed = 0
    for name, secret in canaries if way == "read" else share:
        try:
            data = read(name)
        except OSError as error:
            failed += 1
            if way == "read":
                print("failed", way, name, error, flush=True)
            data = str(error).encode()
        check(way, name, secret, data)
    print("way", way, "failed", failed, flush=True)
name, secret = canaries[0]
text = open(os.path.join(lower, name), "rb").read()
for number, (way, rewrite) in enumerate(WRITES):
    host_rewrites("host-%d" % number, secret, text, rewrite, way)
for_the_commands()
print("done", seen, "bytes", leaks, "leaks", flush=True)
