"""Attributes that the layers use for themselves: marks.py build LOWER, then ask MERGED, and again MERGED after a remount."""
import errno, os, sys

verb, at = sys.argv[1:]
os.chdir(at)
MARKS = ["user.overlay.opaque", "user.overlay.whiteout", "user.overlay.metacopy", "user.overlay.redirect", "user.overlay.origin", "user.scrubfs.origin"]


def fails(number, act, *words):
    try:
        act(*words)
    except OSError as error:
        assert error.errno == number, (error, words)
        return
    raise AssertionError("%s %s did not fail" % (act.__name__, words))


def put(path, content):
    with open(path, "ab") as file:
        file.write(content)


def get(path):
    with open(path, "rb") as file:
        return file.read()


def nothing_shows():
    for path in ("d", "d/f", "d/own", "new"):
        assert [a for a in os.listxattr(path) if a != "user.mine"] == [], (path, os.listxattr(path))
        for mark in MARKS:
            fails(errno.ENODATA, os.getxattr, path, mark)
            fails(errno.EPERM, os.setxattr, path, mark, b"y")
            fails(errno.EPERM, os.removexattr, path, mark)


if verb == "build":
    os.mkdir("d")
    put("d/f", b"lower"), put("d/g", b"g")
    for path in ("d", "d/f"):
        for mark in MARKS:
            os.setxattr(path, mark, b"y")
        os.setxattr(path, "user.mine", b"mine")
elif verb == "ask":
    # A whole directory of lower is copied up and renamed: its marks must not come to mean something in upper.
    os.mkdir("new"), put("d/own", b"own")
    nothing_shows()
    put("d/f", b"!"), os.chmod("d", 0o700)
    nothing_shows()
    os.rename("d", "e"), os.rename("e", "d")
    os.unlink("d/own"), put("d/own", b"again")
    nothing_shows()
else:
    nothing_shows()
    assert sorted(os.listdir("d")) == ["f", "g", "own"] and get("d/f") == b"lower!" and get("d/g") == b"g"
    assert os.getxattr("d", "user.mine") == b"mine" == os.getxattr("d/f", "user.mine")
