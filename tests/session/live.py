"""Changes lower on the host while merged is busy, and waits for each change to show in merged: live.py LOWER MERGED SECONDS.

Every step first makes the kernel remember how it was, also that something was not there. Prints the slowest and its time."""
import errno, os, subprocess, sys, threading, time

lower, merged, limit = sys.argv[1], sys.argv[2], float(sys.argv[3])
slowest = (0, "")


def shows(what, holds):
    global slowest
    began = time.time()
    while not holds():
        if time.time() - began > limit:
            sys.exit("%s does not show after %s s" % (what, limit))
        time.sleep(0.005)
    slowest = max(slowest, (time.time() - began, what))


def get(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        # Replaced in the moment between its opening and its reading.
        if error.errno == errno.ESTALE:
            return None
        raise


def put(path, content):
    with open(lower + "/" + path, "wb") as file:
        file.write(content)


def seen(path):
    """As merged shows it now, and so as the kernel remembers it."""
    try:
        return os.lstat(merged + "/" + path), get(merged + "/" + path), os.listdir(os.path.dirname(merged + "/" + path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def tree(root):
    found = {}
    for at, dirs, names in os.walk(root):
        dirs[:] = [d for d in dirs if d != ".git"]
        for name in dirs + names:
            path = os.path.join(at, name)
            found[os.path.relpath(path, root)] = os.readlink(path) if os.path.islink(path) else get(path)
    return found


def git(*words):
    env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b")
    subprocess.run(["git", "-C", lower + "/repo", *words], check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def branches():
    os.makedirs(lower + "/repo")
    git("init", "-q", "-b", "one")
    for n in range(120):
        os.makedirs("%s/repo/d%d" % (lower, n % 7), exist_ok=True)
        put("repo/d%d/f%d" % (n % 7, n), b"one %d\n" % n)
    os.symlink("d1", lower + "/repo/link")
    git("add", "-A"), git("commit", "-qm", "one"), git("checkout", "-qb", "two")
    for n in range(0, 120, 2):
        put("repo/d%d/f%d" % (n % 7, n), b"two %d, longer\n" % n)
    for n in range(1, 120, 9):
        os.unlink("%s/repo/d%d/f%d" % (lower, n % 7, n))
    os.unlink(lower + "/repo/link")
    put("repo/link", b"a file now"), os.makedirs(lower + "/repo/only/two")
    put("repo/only/two/x", b"x")
    git("add", "-A"), git("commit", "-qm", "two")


def edits():
    for n in range(3):
        put("l/same", b"round %d" % n)
        shows("an edit of the same length", lambda: get(merged + "/l/same") == b"round %d" % n)
        put("l/grows", b"x" * (n * 5000 + 1))
        shows("a file that grows", lambda: get(merged + "/l/grows") == b"x" * (n * 5000 + 1) and os.stat(merged + "/l/grows").st_size == n * 5000 + 1)
    fd = os.open(merged + "/l/same", os.O_RDONLY)
    before = os.pread(fd, 99, 0)
    put("l/same", before[::-1])
    shows("an edit to who has it open", lambda: os.pread(fd, 99, 0) == before[::-1] or (limit > 2 and get(merged + "/l/same") == before[::-1]))
    stamp = os.stat(lower + "/l/same")
    seen("l/same")
    put("l/same", b"stamped"), os.utime(lower + "/l/same", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    shows("an edit with its time put back", lambda: get(merged + "/l/same") == b"stamped")
    seen("l/same"), put("l/.tmp", b"saved"), os.rename(lower + "/l/.tmp", lower + "/l/same")
    shows("a file saved over", lambda: get(merged + "/l/same") == b"saved")
    seen("l/same"), os.chmod(lower + "/l/same", 0o600)
    shows("a mode", lambda: os.stat(merged + "/l/same").st_mode & 0o777 == 0o600)


def names():
    assert seen("l/new") is None
    put("l/new", b"n")
    shows("a new file", lambda: get(merged + "/l/new") == b"n" and "new" in os.listdir(merged + "/l"))
    os.rename(lower + "/l/new", lower + "/l/renamed")
    shows("a rename", lambda: not os.path.exists(merged + "/l/new") and get(merged + "/l/renamed") == b"n")
    os.unlink(lower + "/l/renamed")
    shows("a deletion", lambda: not os.path.lexists(merged + "/l/renamed") and "renamed" not in os.listdir(merged + "/l"))
    assert seen("l/d/e/f") is None
    os.makedirs(lower + "/l/d/e"), put("l/d/e/f", b"f")
    shows("a new tree", lambda: get(merged + "/l/d/e/f") == b"f")
    os.rename(lower + "/l/d", lower + "/l/moved")
    shows("a directory renamed", lambda: get(merged + "/l/moved/e/f") == b"f" and not os.path.exists(merged + "/l/d"))
    put("l/moved/e/f", b"after")
    shows("an edit in a renamed directory", lambda: get(merged + "/l/moved/e/f") == b"after")
    subprocess.run(["rm", "-r", lower + "/l/moved"], check=True)
    put("l/moved", b"a file")
    shows("a file for a directory", lambda: get(merged + "/l/moved") == b"a file")
    seen("l/ln"), os.symlink("same", lower + "/l/ln")
    shows("a link", lambda: os.path.islink(merged + "/l/ln") and os.readlink(merged + "/l/ln") == "same")
    os.unlink(lower + "/l/ln"), os.symlink("grows", lower + "/l/ln")
    shows("another link", lambda: os.readlink(merged + "/l/ln") == "grows" if os.path.islink(merged + "/l/ln") else False)
    os.link(lower + "/l/same", lower + "/l/hard")
    shows("a link count", lambda: os.path.exists(merged + "/l/hard") and os.stat(merged + "/l/same").st_nlink == 2)
    os.unlink(lower + "/l/hard")
    shows("a smaller link count", lambda: os.stat(merged + "/l/same").st_nlink == 1)


def hidden_links():
    """A file that gets a hidden name is hidden under all its names, and shows again when that name is gone."""
    os.makedirs(lower + "/far/deep")
    put("far/deep/one", b"one"), put("far/two", b"two")
    names = lambda: sorted(os.listdir(merged + "/far") + os.listdir(merged + "/far/deep"))
    there = lambda: (os.path.lexists(merged + "/far/deep/one"), os.path.lexists(merged + "/far/two"), names())
    assert there() == (True, True, ["deep", "one", "two"])
    for step in range(2):
        assert get(merged + "/far/deep/one") == b"one"
        os.link(lower + "/far/deep/one", lower + "/l/.env")
        shows("a file that got a hidden name", lambda: there() == (False, True, ["deep", "two"]))
        if step:
            os.rename(lower + "/l/.env", lower + "/l/plain-name")
        else:
            os.unlink(lower + "/l/.env")
        shows("a file that lost its hidden name", lambda: there() == (True, True, ["deep", "one", "two"]) and get(merged + "/far/deep/one") == b"one")
    shows("its links", lambda: os.stat(merged + "/far/deep/one").st_nlink == 2)
    # A directory becomes a hidden one, with a file in it that has a name elsewhere.
    os.makedirs(lower + "/l/keys")
    shows("a directory", lambda: os.path.isdir(merged + "/l/keys") and os.listdir(merged + "/l/keys") == [])
    os.link(lower + "/far/two", lower + "/l/keys/two")
    shows("a link in a directory", lambda: os.stat(merged + "/far/two").st_nlink == 2)
    os.rename(lower + "/l/keys", lower + "/l/.ssh")
    shows("a directory that got a hidden name", lambda: there() == (True, False, ["deep", "one"]))
    os.rename(lower + "/l/.ssh", lower + "/l/keys")
    shows("a directory that lost it", lambda: there() == (True, True, ["deep", "one", "two"]))


def written_beneath():
    """What the agent wrote stays; beside it, lower goes on to show."""
    with open(merged + "/l/own", "wb") as file:
        file.write(b"agent")
    seen("l/beside"), put("l/own", b"host"), put("l/beside", b"host")
    shows("a new file beside one of upper", lambda: get(merged + "/l/beside") == b"host")
    assert get(merged + "/l/own") == b"agent"
    os.unlink(merged + "/l/beside")
    put("l/beside", b"again")
    time.sleep(0.2)
    assert not os.path.exists(merged + "/l/beside"), "what was deleted in merged came back"


def written_while_listed():
    """Files that the host writes while merged lists their directory for the first time."""

    def write(files):
        for path in files:
            with open(lower + "/" + path, "ab") as file:
                file.write(b"y")

    for turn in range(8):
        at = "m%d" % turn
        files = ["%s/%d" % (at, n) for n in range(1000)]
        # Nobody has seen any of them when the directory comes.
        os.mkdir(lower + "-new")
        for file in files:
            put("../%s-new/%s" % (os.path.basename(lower), os.path.basename(file)), b"x")
        os.rename(lower + "-new", lower + "/" + at)
        writer = threading.Thread(target=write, args=(files,))
        writer.start()
        for entry in os.scandir(merged + "/" + at):
            entry.stat(follow_symlinks=False)
        writer.join()
        shows("what was written while it was listed", lambda: all(os.lstat(merged + "/" + file).st_size == 2 for file in files))


def main():
    os.makedirs(lower + "/l")
    branches()
    # Before all of merged is read over and over: who reads a file has the kernel ask for its attributes again.
    written_while_listed()
    busy = subprocess.Popen(["sh", "-c", 'while :; do find "$1" -type f -exec cat {} + >/dev/null 2>&1; sleep 0.01; done', "sh", merged])
    try:
        for step in (edits, names, hidden_links, written_beneath):
            step()
        for n in range(4):
            git("checkout", "-q", ("one", "two")[n % 2])
            expected = tree(lower + "/repo")
            shows("another branch", lambda: tree(merged + "/repo") == expected)
            # What git status reads as well: it writes the index that it has read.
            shows("git's own files", lambda: all(get(merged + own) == get(lower + own) for own in ("/repo/.git/HEAD", "/repo/.git/index")))
        status = subprocess.run(["git", "-C", merged + "/repo", "status", "--short"], stdout=subprocess.PIPE, check=True)
        assert status.stdout == b"", status.stdout
    finally:
        busy.kill(), busy.wait()
    print("the slowest was %s, %.3f s" % (slowest[1], slowest[0]))


main()
