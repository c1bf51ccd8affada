"""Merged while what lies beneath it breaks: broken.py VERB DIR LEDGER. Ends with an exception where something is lost or half done."""
import ctypes, errno, json, os, random, sys

verb, at, ledger = sys.argv[1:4]
os.chdir(at)
TOLD = {errno.ENOMEM, errno.EIO}


def get(path):
    with open(path, "rb") as file:
        return file.read()


def put(path, content, mode="wb"):
    with open(path, mode, buffering=0) as file:
        return file.write(content)


def failing():
    """Each content that a file may have by now is noted; a call that failed may have done its work, or not."""
    random.seed(7)
    may = {"low/%d" % n: [("low/%d\n" % n) * 900] for n in range(60)}
    told = done = 0

    def tried(act):
        nonlocal told, done
        try:
            act()
        except OSError as error:
            assert error.errno in TOLD, error
            told += 1
            return False
        done += 1
        return True

    def saved(path, text):
        if tried(lambda: put(path + ".new", text.encode())) and tried(lambda: os.rename(path + ".new", path)):
            may[path] = [text]
        else:
            may[path] = may.get(path, [None]) + [text]

    def read(path):
        content = []
        if tried(lambda: content.append(get(path))):
            may[path] = [text for text in may[path] if text is not None and text.encode() == content[0]]
            assert may[path], "%s shows what was never written" % path

    def appended(path):
        if tried(lambda: put(path, b"+", "ab")):
            may[path] = [text + "+" for text in may[path]]
        else:
            may[path] += [text + "+" for text in may[path]]

    def moved(n):
        here = "a%d" % n
        try:
            os.lstat(here)
        except FileNotFoundError:
            here = "b%d" % n
        os.rename(here, {"a": "b", "b": "a"}[here[0]] + here[1:])

    tried(lambda: os.mkdir("own")) or tried(lambda: os.mkdir("own"))
    for n in range(400):
        saved("own/%d" % (n % 40), "own %d\n" % n)
        read(random.choice(["low/%d" % (n % 60), "own/%d" % (n % 40)]) if may.get("own/%d" % (n % 40), [None])[0] else "low/%d" % (n % 60))
        if n % 3 == 0:
            appended("low/%d" % (n % 60))
        tried(lambda: moved(n % 6)), tried(lambda: os.listdir("low")), tried(lambda: os.chmod("low/%d" % (n % 60), 0o600 + n % 40))
    with open(ledger, "w") as file:
        json.dump(may, file)
    assert told > 20 and done > 500, (told, done)
    print(told, "calls were told,", done, "were done")


def afterwards():
    with open(ledger) as file:
        may = json.load(file)
    for path, texts in may.items():
        content = get(path).decode() if os.path.lexists(path) else None
        assert content in texts, "%s holds %r" % (path, content and content[:60])
    assert set(os.listdir("low")) == {str(n) for n in range(60)}
    for n in range(6):
        places = [p for p in ("a%d" % n, "b%d" % n) if os.path.lexists(p)]
        assert len(places) == 1 and get(places[0] + "/sub/f") == b"f", places
    put("low/1", b"+", "ab")
    assert get("low/1")[-1:] == b"+"
    may["low/1"] = [get("low/1").decode()]
    with open(ledger, "w") as file:
        json.dump(may, file)


def synced(path, content, mode="wb"):
    with open(path, mode, buffering=0) as file:
        assert file.write(content) == len(content)
        os.fsync(file.fileno())


NOISE = bytes((n * n // 7) & 255 for n in range(1 << 16)) * 16


def before():
    """What is synced, what is not, and then one sync more, which takes with it what the disk's journal has of the others."""
    os.makedirs("new/dir")
    synced("new/dir/f", NOISE), synced("plain", b"more\n", "ab")
    fd = os.open("new/dir/f", os.O_RDWR)
    os.pwrite(fd, b"later", 1000), os.fdatasync(fd), os.close(fd)
    os.rename("new/dir/f", "new/dir/g")
    for dir in ("new/dir", "new", "."):
        fd = os.open(dir, os.O_RDONLY)
        os.fsync(fd), os.close(fd)
    os.chmod("big", 0o600), os.rename("moved", "there"), os.rename("tree", "wood")
    synced("last", b"last")


def after():
    content = get("new/dir/g")
    assert content[1000:1005] == b"later" and content[:1000] + content[1005:] == NOISE[:1000] + NOISE[1005:], "a synced file"
    assert get("plain") == b"plain\nmore\n" and get("last") == b"last"
    size = 3 << 20
    names = ["big"] + [p for p in ("moved", "there", "tree/sub/f", "wood/sub/f") if os.path.lexists(p)]
    assert len(names) == 3, names
    lower = bytes((n * n // 7) & 255 for n in range(size))
    for name in names:
        assert get(name) == lower, "%s is torn: %d bytes" % (name, os.stat(name).st_size)
    print(names)


def tree(root):
    return {os.path.relpath(os.path.join(at, n), root): get(os.path.join(at, n)) for at, _, names in os.walk(root) for n in names}


D = {"f": b"f", "sub/g": b"g", "sub/deep/h": b"h"}
E = {"i": b"i", "two": b"1"}


def prepare(act):
    """Warm, so that the calls that follow are of the act itself."""
    tree(".")
    if act == "replace":
        for path in ("e/i", "e/two"):
            os.unlink(path)


def cut(act):
    try:
        if act == "append":
            put("one", b"+", "ab")
        elif act == "exchange":
            number = ctypes.CDLL(None, use_errno=True).renameat2(-100, b"d", -100, b"e", 2)
            if number:
                raise OSError(ctypes.get_errno(), "renameat2")
        else:
            os.rename("d", "e" if act == "replace" else "moved")
    except OSError as error:
        assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED), error
        return print("killed")
    try:
        os.stat("nothing-of-that-name")
    except FileNotFoundError:
        print("done")
    except OSError:
        print("killed")


def whole(act):
    found = {name: tree(name) if os.path.isdir(name) else get(name) for name in ("d", "e", "moved", "one") if os.path.lexists(name)}
    one, two = found.pop("one"), found.get("e", {}).get("two", found.get("d", {}).get("two"))
    old, new = {
        "rename": ({"d": D, "e": E}, {"moved": D, "e": E}),
        "exchange": ({"d": D, "e": E}, {"d": E, "e": D}),
        "replace": ({"d": D, "e": {}}, {"e": D}),
        "append": ({"d": D, "e": E}, {"d": D, "e": dict(E, two=b"1+")}),
    }[act]
    assert found in (old, new), (act, found)
    if act != "replace":
        at = "e/two" if os.path.exists("e/two") else "d/two"
        assert one == two and os.path.samefile("one", at) and os.stat("one").st_nlink == 2, (act, one, two)
    os.mkdir("free"), put("free/f", b"f")


acts = {"failing": failing, "afterwards": afterwards, "before": before, "after": after}
if "-" in verb:
    {"prepare": prepare, "whole": whole}[verb.split("-")[0]](verb.split("-")[1])
elif verb in acts:
    acts[verb]()
else:
    cut(verb)
