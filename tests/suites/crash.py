#!/usr/bin/env python3
"""Kills the daemon in the middle of work, again and again: tests/suites/crash.py [ROUNDS] [SEED]

Each round runs a mixed load in merged (git commits, SQLite transactions, a cargo build, files that are synced, closed, renamed over,
directories that move, hard links), ends the daemon by SIGKILL at a random moment, mounts again and checks: SQLite's integrity_check
and every row that was committed, `git fsck` and every commit that was made, every file that was synced or closed, each moving
directory whole at one of its places, work/ empty, and that kernel overlayfs reads the same tree from lower and upper (root only).
At the end lower must be as it was, and a cargo build must pass. SCRUBFS_BIN names the binary."""
import hashlib, os, random, shutil, signal, sqlite3, stat, subprocess, sys, tempfile, time

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
built = [os.path.join(source, "target", kind, "scrubfs") for kind in ("release", "debug")]
scrubfs = os.environ.get("SCRUBFS_BIN") or next((b for b in built if os.path.exists(b)), None)
if not scrubfs:
    sys.exit("no binary: cargo build first")

work = tempfile.mkdtemp(prefix="scrubfs-crash.")
lower, merged, ledgers = work + "/lower", work + "/mnt", work + "/ledgers"
os.environ.update(
    SCRUBFS_STATE_DIR=work + "/state", SCRUBFS_CONFIG_DIR=work + "/config", CARGO_NET_OFFLINE="true", CARGO_INCREMENTAL="1",
    GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b", GIT_CONFIG_GLOBAL="/dev/null",
    # A collection in the background outlives its git, and where a directory cannot be read git tries for ever.
    GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="gc.autoDetach", GIT_CONFIG_VALUE_0="false",
)
for unset in ("CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_BUILD_TARGET_DIR"):
    os.environ.pop(unset, None)


def run(*words, check=True, **options):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **options)
    if check and done.returncode:
        raise AssertionError("%s ended with %s: %s" % (" ".join(words), done.returncode, done.stdout[-2000:]))
    return done.stdout


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


# What the load does. Each runs as a process of its own until the mount dies, and notes what it finished in a ledger outside.
def git(note):
    os.chdir(merged + "/repo")
    n = 0
    while True:
        n += 1
        with open("file%d" % (n % 7), "a") as file:
            file.write("line %d\n" % n * 50)
        run("git", "add", "-A")
        run("git", "commit", "-qm", "n%d" % n)
        note(run("git", "rev-parse", "HEAD").strip())


def sqlite(note):
    base = sqlite3.connect(merged + "/app.db", timeout=5)
    base.execute("pragma journal_mode=" + random.choice(["wal", "delete", "truncate", "persist"]))
    base.execute("pragma synchronous=" + random.choice(["full", "normal"]))
    base.execute("create table if not exists t (id text primary key, filler blob)")
    start = base.execute("select count(*) from t").fetchone()[0]
    if start > 1000:
        base.execute("delete from t where rowid in (select rowid from t limit 300)")
        base.commit()
    for n in range(start, 1 << 30):
        name = "%d-%d" % (os.getpid(), n)
        base.execute("insert into t values (?, ?)", (name, os.urandom(random.randrange(3000))))
        base.commit()
        note(name)


def cargo(note):
    os.chdir(merged + "/crate")
    n = 0
    while True:
        n += 1
        write("src/part.rs", "pub fn part() -> u64 { %d }\n" % n)
        run("cargo", "build", "--offline", "-q")
        note(str(n))


def files(note):
    os.makedirs(merged + "/files", exist_ok=True)
    os.chdir(merged + "/files")
    n = 0
    while True:
        n += 1
        name, how = "f%d" % (n % 200), n % 3
        text = ("%s %d %d " % (name, os.getpid(), n) * random.randrange(1, 400)).encode()
        target = name if how == 0 else name + ".new"
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, text)
        if how < 2:
            os.fsync(fd)
        os.close(fd)
        if target != name:
            os.rename(target, name)
        note("%s %s" % (name, hashlib.sha256(text).hexdigest()))


def lower_files(note):
    os.chdir(merged + "/tree")
    n = 0
    while True:
        n += 1
        name = "f%d" % (n % 40)
        with open(name, "ab") as file:
            file.write(b"x" * random.randrange(1, 9000))
        note("%s %d" % (name, os.stat(name).st_size))


def moves(note):
    os.chdir(merged)
    while True:
        for n in range(6):
            here, there = "move/a%d" % n, "move/b%d" % n
            if not os.path.exists(here):
                here, there = there, here
            os.rename(here, there)
            with open(there + "/own", "a") as file:
                file.write("x")
        note("")


def links(note):
    os.chdir(merged + "/links")
    n = 0
    while True:
        n += 1
        name = "n%d" % (n % 30)
        if os.path.exists(name):
            os.unlink(name)
        os.link("one", name)
        if n % 10 == 0:
            with open(name, "a") as file:
                file.write("%d\n" % n)
        note("")


LOADS = [git, sqlite, cargo, files, lower_files, moves, links]


def start(load):
    """A process that does one load; it ends when the mount does."""
    ledger = os.open("%s/%s" % (ledgers, load.__name__), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    pid = os.fork()
    if pid:
        os.close(ledger)
        return pid
    os.setsid()
    try:
        load(lambda text: os.write(ledger, (text + "\n").encode()))
    except BaseException as error:
        os.write(ledger, ("#%r\n" % error).encode())
    os._exit(0)


def noted(load):
    with open("%s/%s" % (ledgers, load.__name__)) as file:
        return [line[:-1] for line in file if line.endswith("\n") and not line.startswith("#")]


def last_words(load):
    with open("%s/%s" % (ledgers, load.__name__)) as file:
        return [line for line in file if line.startswith("#")]


def tree(root, hide=()):
    """What counts of each object beneath a directory."""
    found = {}
    for at, dirs, names in os.walk(root):
        for name in dirs + names:
            path = os.path.join(at, name)
            inner = os.path.relpath(path, root)
            if inner in hide:
                continue
            s = os.lstat(path)
            content = None
            if stat.S_ISREG(s.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            elif stat.S_ISLNK(s.st_mode):
                content = os.readlink(path)
            found[inner] = (s.st_mode, s.st_uid, s.st_gid, None if stat.S_ISDIR(s.st_mode) else s.st_size, s.st_mtime_ns, content)
    return found


def make_lower():
    for n in range(40):
        write("%s/tree/f%d" % (lower, n), "lower %d\n" % n)
    for n in range(6):
        for inner in ("x", "sub/y", "sub/z"):
            write("%s/move/a%d/%s" % (lower, n, inner), "content of %s\n" % inner)
    write(lower + "/links/one", "one\n")
    os.link(lower + "/links/one", lower + "/links/two")
    write(lower + "/.env", "PASSWORD=hunter2hunter2\n")
    write(lower + "/crate/Cargo.toml", '[package]\nname = "small"\nversion = "0.1.0"\nedition = "2021"\n')
    write(lower + "/crate/src/part.rs", "pub fn part() -> u64 { 0 }\n")
    write(lower + "/crate/src/main.rs", 'mod part;\nfn main() { println!("{}", part::part()); }\n')
    base = sqlite3.connect(lower + "/app.db")
    base.execute("create table t (id text primary key, filler blob)")
    base.commit()
    base.close()
    for n in range(30):
        write("%s/repo/file%d" % (lower, n), "text %d\n" % n * 20)
    run("git", "init", "-q", cwd=lower + "/repo")
    run("git", "add", "-A", cwd=lower + "/repo")
    run("git", "commit", "-qm", "first", cwd=lower + "/repo")


def session():
    return work + "/state/sessions/" + os.listdir(work + "/state/sessions")[0]


def daemon():
    with open(session() + "/mount.toml") as file:
        return int(next(line for line in file if line.startswith("pid = "))[6:])


def check_programs(locks):
    base = sqlite3.connect(merged + "/app.db", timeout=5)
    assert base.execute("pragma integrity_check").fetchall() == [("ok",)], "SQLite: integrity_check"
    rows = {row[0] for row in base.execute("select id from t")}
    lost = [name for name in noted(sqlite) if name not in rows]
    # `normal` with a WAL may lose a commit at a power cut, never when a process dies.
    assert not lost, "SQLite lost %d commits: %s" % (len(lost), lost[:3])
    base.close()
    # A git that was killed leaves its locks, in any file system.
    for at, _, names in os.walk(merged + "/repo/.git"):
        for name in names:
            if name.endswith(".lock"):
                os.unlink(os.path.join(at, name))
                locks.append(name)
    said = run("git", "fsck", "--full", "--strict", cwd=merged + "/repo")
    assert not any(word in said for word in ("error", "missing", "corrupt", "broken")), said
    history = set(run("git", "log", "--format=%H", cwd=merged + "/repo").split())
    lost = [commit for commit in noted(git) if commit not in history]
    assert not lost, "git lost %d commits: %s" % (len(lost), lost[:3])
    run("git", "status", "--short", cwd=merged + "/repo")


def check_files():
    last = {}
    for line in noted(files):
        name, digest = line.split()
        last[name] = digest
    written = noted(files)
    for name, digest in last.items():
        with open("%s/files/%s" % (merged, name), "rb") as file:
            content = file.read()
        # The one that was being written when the daemon died may be the next content already, or half of it.
        now = hashlib.sha256(content).hexdigest()
        coming = "f%d" % ((len(written) + 1) % 200)
        assert now == digest or name == coming, "%s is not what was synced or closed" % name
    sizes = dict(line.split() for line in noted(lower_files))
    for name, size in sizes.items():
        now = os.stat("%s/tree/%s" % (merged, name)).st_size
        assert now >= int(size), "%s has %d bytes, %s were written" % (name, now, size)
    for n in range(6):
        places = [p for p in ("a%d" % n, "b%d" % n) if os.path.lexists("%s/move/%s" % (merged, p))]
        assert len(places) == 1, "the directory %d is at %s" % (n, places)
        inside = sorted(tree("%s/move/%s" % (merged, places[0])))
        assert [i for i in inside if i != "own"] == ["sub", "sub/y", "sub/z", "x"], inside
    one = os.stat(merged + "/links/one")
    for name in os.listdir(merged + "/links"):
        other = os.stat("%s/links/%s" % (merged, name))
        assert (other.st_ino, other.st_nlink) == (one.st_ino, one.st_nlink), "the link %s is another file" % name
    assert one.st_nlink == len(os.listdir(merged + "/links")), "links: %d" % one.st_nlink


def check_kernel(n):
    """Kernel overlayfs over the same layers shows the same tree."""
    if os.geteuid() != 0:
        return
    at, scratch = work + "/kernel", work + "/state/kernel-work"
    os.makedirs(at, exist_ok=True)
    os.makedirs(scratch, exist_ok=True)
    options = "userxattr,lowerdir=%s,upperdir=%s/upper,workdir=%s" % (lower, session(), scratch)
    run("mount", "-t", "overlay", "-o", options, "overlay", at)
    try:
        theirs, ours = tree(at, hide={".env"}), tree(merged)
    finally:
        run("umount", at)
    other = {path for path in theirs.keys() | ours.keys() if theirs.get(path) != ours.get(path)}
    assert not other, "round %d: the kernel reads another tree: %s" % (n, [(p, theirs.get(p), ours.get(p)) for p in sorted(other)[:3]])


def reap(pids, totals):
    """All programs of the load must end: most by themselves, and one that takes the dead mount for a reason to wait when it is killed."""
    began = time.time()
    for load, pid in zip(LOADS, pids):
        killed = False
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.time() > began + 20 and not killed:
                print(run("ps", "-o", "pid,stat,wchan:20,args", "-s", str(pid), check=False), flush=True)
                os.killpg(pid, signal.SIGKILL)
                killed = True
                totals["killed " + load.__name__] = totals.get("killed " + load.__name__, 0) + 1
            assert time.time() < began + 40, "%s cannot be killed" % load.__name__
            time.sleep(0.01)


def one_round(n, totals, locks):
    began, pids = time.time(), [start(load) for load in LOADS]
    time.sleep(random.uniform(0.2, 3.0))
    # On a busy machine a build takes longer than most rounds; now and then one may come to its end.
    while n % 10 == 0 and not noted(cargo) and time.time() < began + 60:
        time.sleep(0.1)
    for load, pid in zip(LOADS, pids):
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "%s failed by itself: %s" % (load.__name__, last_words(load))
    os.kill(daemon(), signal.SIGKILL)
    reap(pids, totals)
    run(scrubfs, "mount", lower, "--at", merged)
    # Nobody looked yet: the first to do so must find all in order.
    assert not os.listdir(session() + "/work"), "work/ is not empty"
    check_files()
    check_programs(locks)
    check_kernel(n)
    for load in LOADS:
        totals[load.__name__] = totals.get(load.__name__, 0) + len(noted(load))


def clean_up():
    run(scrubfs, "unmount", lower, check=False)
    with open("/proc/self/mountinfo") as table:
        left = [line.split()[4] for line in table if line.split()[4].startswith(work + "/")]
    for at in reversed(left):
        run("umount", "-l", at, check=False)
    shutil.rmtree(work, ignore_errors=True)


def main():
    for sub in ("lower", "mnt", "ledgers", "config", "state"):
        os.mkdir(work + "/" + sub)
    random.seed(seed)
    print("%d rounds, seed %d" % (rounds, seed), flush=True)
    make_lower()
    before, began, totals, locks = tree(lower), time.time(), {}, []
    run(scrubfs, "mount", lower, "--at", merged)
    for n in range(1, rounds + 1):
        try:
            one_round(n, totals, locks)
        except BaseException:
            for line in run("tail", "-n", "30", session() + "/daemon.log").splitlines():
                print("log:", line)
            print("FAILED in round %d of seed %d" % (n, seed), flush=True)
            raise
        if n % 20 == 0:
            print("round %d, %d s: %s" % (n, time.time() - began, totals), flush=True)
    run("cargo", "build", "--offline", "-q", cwd=merged + "/crate")
    assert run(merged + "/crate/target/debug/small").strip().isdigit()
    assert tree(lower) == before, "lower was written"
    idle = [load.__name__ for load in LOADS if not totals.get(load.__name__)]
    assert not idle, "these did nothing: %s" % idle
    print("%d rounds passed in %d s: %s; locks of killed gits: %d" % (rounds, time.time() - began, totals, len(locks)))


try:
    main()
finally:
    if os.environ.get("SCRUBFS_KEEP"):
        print("kept", work)
    else:
        clean_up()
