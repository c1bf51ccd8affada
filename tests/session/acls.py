"""What programs see of ACLs (acl(5)) in a directory: acls.py build|ask DIR. `build` makes the objects that lie in lower, `ask` prints one line
a question. As root the questions are also asked by users whom the ACLs name or do not name."""
import os, subprocess, sys, tempfile

verb, at = sys.argv[1:]
NAMED, STRANGER, GROUP = 1234, 1235, 4321
ROOT = os.geteuid() == 0


def facl(*words):
    done = subprocess.run(["setfacl", *words], cwd=at, capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stderr)


def acl(path):
    """An object's mode and ACLs in one line."""
    said = subprocess.run(["getfacl", "-cpn", path], cwd=at, capture_output=True, text=True)
    mode = oct(os.stat(os.path.join(at, path)).st_mode) if os.path.exists(os.path.join(at, path)) else "none"
    return mode + " " + " ".join(said.stdout.split()) + said.stderr


def build():
    os.umask(0o022)
    os.makedirs(at)
    os.chdir(at)
    for dir in ("dir", "plain", "shared", "gone", "nomask", "bare", "barer"):
        os.mkdir(dir)
        for name in ("file", "run", "moved"):
            open(dir + "/" + name, "w").write(name)
    facl("-m", "u:%d:rwx,g:%d:r-x" % (NAMED, GROUP), "dir")
    facl("-d", "-m", "u:%d:rwx,g:%d:r-x,o::---" % (NAMED, GROUP), "dir", "shared", "bare", "barer")
    facl("-d", "-m", "g::rwx", "nomask")
    facl("-m", "u:%d:rw" % NAMED, "dir/file")
    facl("-m", "u:%d:rwx,g::---,m::r" % NAMED, "plain/file")
    facl("-m", "g:%d:rw,o::-" % GROUP, "plain/run")
    facl("-m", "u:%d:rw" % NAMED, "gone/file")
    os.setxattr("gone/file", "user.k", b"v")
    os.chmod("shared", 0o2775)
    for inner in ("deep", "deep/er"):
        os.mkdir("dir/" + inner)
    open("dir/deep/er/f", "w").write("f")
    facl("-m", "u:%d:r" % NAMED, "dir/deep/er/f")


def say(name, act):
    try:
        answer = act()
    except OSError as error:
        answer = error.strerror
    print(name + ":", answer, flush=True)


def as_user(uid, act, groups=()):
    """What an act gives when another user does it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups(list(groups)), os.setgid(uid), os.setuid(uid)
        try:
            act()
            answer = "done"
        except OSError as error:
            answer = error.strerror
        except subprocess.CalledProcessError as error:
            answer = error.stderr.strip()
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    return os.read(read, 999).decode()


def put(path, text="x", mode=0o666):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, mode)
    os.write(fd, text.encode())
    os.close(fd)


def inherited():
    """What new objects get, for each umask."""
    for umask in (0, 0o022, 0o077):
        os.umask(umask)
        for dir in ("dir", "plain", "shared", "nomask"):
            name = "%s/n%o" % (dir, umask)
            put(name), os.mkdir(name + "d"), os.mkfifo(name + "p"), os.mkdir(name + "d/sub", 0o700), put(name + "d/sub/f", mode=0o640)
            os.symlink("x", name + "l")
            put(name + "x", mode=0o777)
            for made in (name, name + "d", name + "p", name + "x", name + "d/sub", name + "d/sub/f"):
                say("new %s" % made, lambda: acl(made))
    os.umask(0o022)
    # Where something was before the new object is made in another way.
    for dir in ("dir", "plain", "shared"):
        for name in ("file", "run"):
            old = acl(dir + "/" + name)
            os.unlink(dir + "/" + name)
            put(dir + "/" + name)
            say("after %s, %s/%s" % (old, dir, name), lambda: acl(dir + "/" + name))
            os.unlink(dir + "/" + name), os.mkdir(dir + "/" + name), put(dir + "/" + name + "/f"), os.mkfifo(dir + "/" + name + "/p")
            for made in ("", "/f", "/p"):
                say("a directory instead, %s/%s%s" % (dir, name, made), lambda: acl(dir + "/" + name + made))
    with tempfile.NamedTemporaryFile(dir="dir", prefix="tmp", delete=False) as file:
        os.rename(file.name, "dir/saved")
    say("saved over", lambda: acl("dir/saved"))


def changed():
    for mode in (0o600, 0o640, 0o777, 0o750):
        os.chmod("plain/file", mode), os.chmod("dir", mode | 0o700)
        say("chmod %o" % mode, lambda: (acl("plain/file"), acl("dir")))
    facl("-m", "u:%d:rwx" % STRANGER, "plain/file", "plain/moved", "dir/deep")
    for path in ("plain/file", "plain/moved", "dir/deep"):
        say("setfacl " + path, lambda: acl(path))
        say("its attributes", lambda: sorted(os.listxattr(path)))
    os.rename("plain/moved", "gone/moved"), os.rename("dir/deep", "plain/deep"), os.link("plain/file", "gone/link")
    for path in ("gone/moved", "plain/deep", "plain/deep/er", "plain/deep/er/f", "gone/link"):
        say("moved " + path, lambda: acl(path))
    facl("-x", "u:%d" % STRANGER, "plain/file"), say("setfacl -x", lambda: (acl("plain/file"), acl("gone/link")))
    facl("-b", "gone/link", "bare", "plain/deep/er/f"), say("setfacl -b", lambda: (acl("plain/file"), acl("bare"), acl("plain/deep/er/f")))
    facl("-k", "barer"), put("barer/after"), say("setfacl -k", lambda: (acl("barer"), acl("barer/after")))
    facl("-m", "d:u:%d:r" % NAMED, "gone"), put("gone/after"), say("a later default", lambda: (acl("gone"), acl("gone/after")))
    say("not for a file", lambda: os.setxattr("plain/file", "system.posix_acl_default", os.getxattr("gone", "system.posix_acl_default")))
    say("damaged", lambda: os.setxattr("plain/file", "system.posix_acl_access", b"x" * 12))
    say("none", lambda: os.getxattr("plain", "system.posix_acl_default"))
    subprocess.run(["cp", "-a", "gone", "copied"], check=True), say("cp -a", lambda: (acl("copied"), acl("copied/moved")))


def unlinked():
    """A file of lower without a name goes on with what it was."""
    fd = os.open("gone/file", os.O_RDWR)
    os.unlink("gone/file")
    os.pwrite(fd, b"more", 0)
    stat = os.fstat(fd)
    say("unlinked", lambda: (oct(stat.st_mode), stat.st_uid, stat.st_gid, os.getxattr(fd, "user.k"), len(os.getxattr(fd, "system.posix_acl_access"))))


def asked_by_others():
    def both(name, act, **more):
        for uid in (NAMED, STRANGER):
            say("%s as %d" % (name, uid), lambda: as_user(uid, act, **more))

    both("read", lambda: open("plain/file").read())
    both("write", lambda: open("plain/file", "r+").write("y"))
    both("write one of the directory with a default", lambda: open("dir/file", "r+").write("y"))
    both("read by a named group", lambda: open("plain/run").read(), groups=(GROUP,))
    both("write by a named group", lambda: open("plain/run", "r+").write("y"), groups=(GROUP,))
    both("make", lambda: put("dir/by%d" % os.getuid()))
    both("list by group", lambda: os.listdir("dir"), groups=(GROUP,))
    both("chmod", lambda: os.chmod("plain/file", 0o666))
    both("set an ACL", lambda: subprocess.run(["setfacl", "-m", "u:7:r", "plain/file"], check=True, capture_output=True, text=True))
    both("make and open to another", lambda: (put("dir/o%d" % os.getuid()), subprocess.run(["setfacl", "-m", "u:7:r", "dir/o%d" % os.getuid()], check=True, capture_output=True, text=True)))
    for path in ("dir/by%d" % NAMED, "dir/o%d" % NAMED):
        say("made by the named " + path, lambda: (acl(path), os.stat(path).st_uid))
    facl("-m", "u:%d:rwx" % STRANGER, "plain/file")
    both("read what opened", lambda: open("plain/file", "r+").read())
    os.chmod("plain/file", 0o700)
    both("read what closed", lambda: open("plain/file").read())
    os.mkdir("sgid"), os.chown("sgid", NAMED, GROUP), os.chmod("sgid", 0o2775)
    for groups in ((), (GROUP,)):
        os.chmod("sgid", 0o2775)
        set_one = lambda: subprocess.run(["setfacl", "-m", "u:7:r", "sgid"], check=True, capture_output=True, text=True)
        say("setgid and groups %s" % (groups,), lambda: (as_user(NAMED, set_one, groups=groups), acl("sgid")))


if verb == "build":
    build()
else:
    os.chdir(at)
    for path in (".", "dir", "dir/file", "plain", "plain/file", "plain/run", "shared", "nomask", "dir/deep/er/f"):
        say("lower " + path, lambda: acl(path))
        say("attributes of " + path, lambda: sorted(os.listxattr(path)))
    if ROOT:
        asked_by_others()
    unlinked()
    changed()
    inherited()
