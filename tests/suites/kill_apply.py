#!/usr/bin/env python3
"""Kills commands that write to the workspace, again and again: tests/suites/kill_apply.py [ROUNDS] [SEED]

Each round makes a random change set of some hundred files through the mount, then ends an `apply`, an `undo` or a `discard` by SIGKILL:
at a random moment, a while after it was stopped, or (with strace) at a random call of those that write. Half of the time the session
is unmounted meanwhile. Then every command must refuse with 4 until `--continue` or `--abort`, which are killed at times as well, and
lower must be exactly as before or exactly as after: content, type, mode, owner, attributes, and the time of all but directories.
The session must hold what is left, nothing may lie about, and what was hidden is as it was. SCRUBFS_BIN names the binary. As root and as
an ordinary user, whom modes keep from things."""
import hashlib, itertools, os, random, shutil, signal, stat, subprocess, sys, tempfile, time

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
built = [os.path.join(source, "target", kind, "scrubfs") for kind in ("release", "debug")]
scrubfs = os.environ.get("SCRUBFS_BIN") or next((b for b in built if os.path.exists(b)), None)
if not scrubfs:
    sys.exit("no binary: cargo build first")

work = tempfile.mkdtemp(prefix="scrubfs-kill.")
lower, merged = work + "/lower", work + "/mnt"
os.environ.update(SCRUBFS_STATE_DIR=work + "/state", SCRUBFS_CONFIG_DIR=work + "/config", NO_COLOR="1")
HIDDEN = {".env": b"PASSWORD=hunter2hunter2\n", "d1/.env": b"TOKEN=one\n", "d3/id_rsa": b"a key\n"}
ALLOW = [word for flag in ("exec-bit", "special", "symlink-escape", "auto-exec") for word in ("--allow", flag)]
APPLY = [scrubfs, "apply", lower, *ALLOW]
# Calls between which the state on disk changes, and those that make it last.
CALLS = "renameat2,mkdirat,unlinkat,linkat,symlinkat,mknodat,fchmod,fchmodat,utimensat,setxattr,fsetxattr,fsync,fdatasync,syncfs,write"
STRACE = shutil.which("strace")
counts = {}
fresh_names = itertools.count()


history = []


def count(what):
    history.append(what)
    counts[what] = counts.get(what, 0) + 1


def run(*words, expect=(0,)):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    if done.returncode not in expect:
        raise AssertionError("%s ended with %s: %s" % (" ".join(words), done.returncode, done.stdout[-2000:].decode("utf-8", "replace")))
    return done.returncode, done.stdout


def tree(root):
    """What counts of each object beneath a directory."""
    found = {}
    for at, dirs, names in os.walk(root):
        for name in dirs + names:
            path = os.path.join(at, name)
            s, content = os.lstat(path), None
            if stat.S_ISREG(s.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            elif stat.S_ISLNK(s.st_mode):
                content = os.readlink(path)
            marks = [] if stat.S_ISLNK(s.st_mode) else [(n, os.getxattr(path, n)) for n in sorted(os.listxattr(path)) if n.startswith("user.")]
            when = None if stat.S_ISDIR(s.st_mode) else s.st_mtime_ns
            found[os.path.relpath(path, root)] = (s.st_mode, s.st_uid, s.st_gid, when, content, marks)
    return found


def shown(found):
    """Without what is hidden, and without the directories above it: those stay in lower, also where merged has none any more."""
    kept = set(HIDDEN) | {os.path.dirname(path) for path in HIDDEN}
    return {path: what for path, what in found.items() if path not in kept}


def difference(one, other):
    paths = sorted(p for p in one.keys() | other.keys() if one.get(p) != other.get(p))
    return "%d paths: %s" % (len(paths), [(p, one.get(p), other.get(p)) for p in paths[:3]])


def session():
    return work + "/state/sessions/" + os.listdir(work + "/state/sessions")[0]


def mount():
    """The daemon of the mount before may live on for as long as a mount namespace of somebody else has a copy of it."""
    for _ in range(60):
        found, said = run(scrubfs, "mount", lower, "--at", merged, expect=(0, 1))
        if found == 0:
            return
        assert b"in use" in said, said
        time.sleep(0.5)
    raise AssertionError("the session is in use for half a minute")


def unmount():
    run(scrubfs, "unmount", lower)


def make_lower():
    for n in range(150):
        path = "%s/d%d/s%d/f%d" % (lower, n % 5, n % 3, n)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("line of %d\n" % n * (n % 40))
    for path, content in HIDDEN.items():
        with open(os.path.join(lower, path), "wb") as file:
            file.write(content)


made = 0


def content():
    """Never the same twice: a file written anew with what it had is no change, and keeps its time in lower."""
    global made
    made += 1
    if random.randrange(5) == 0:
        return b"%d" % made + os.urandom(random.randrange(1, 60000))
    return b"some text %d\n" % made * random.randrange(1, 300)


def objects():
    dirs, files = [merged], []
    for at, inner, names in os.walk(merged):
        dirs += [os.path.join(at, d) for d in inner]
        files += [os.path.join(at, n) for n in names]
    return dirs, files


def agent(many):
    """Random changes through the mount. What a path cannot take is left alone."""
    dirs, files = objects()
    for _ in range(many):
        how = random.randrange(21)
        fresh = os.path.join(random.choice(dirs), "n%d" % next(fresh_names))
        old = random.choice(files) if files else fresh
        try:
            change(how, old, fresh, dirs, files)
        except OSError:
            count("changes refused")


def change(how, old, fresh, dirs, files):
    if how < 7:
        with open(old if how < 4 else fresh, "wb") as file:
            file.write(b"" if how == 6 else content())
        if how >= 4:
            files.append(fresh)
    elif how < 9:
        os.unlink(old)
        files.remove(old)
    elif how < 12:
        os.rename(old, fresh)
        files[files.index(old)] = fresh
    elif how == 12:
        os.chmod(old, random.choice([0o644, 0o600, 0o755, 0o444]), follow_symlinks=True)
    elif how == 13:
        os.symlink(random.choice(["f1", "../nowhere", "d0/s0"]), fresh)
        files.append(fresh)
    elif how == 14:
        os.setxattr(old, "user.note", os.urandom(6), follow_symlinks=True)
    elif how < 17:
        os.mkdir(fresh)
        dirs.append(fresh)
    elif how == 17 and len(dirs) > 3 and random.randrange(3) == 0:
        # Later changes below its old name are refused, as a program's are.
        os.rename(random.choice(dirs[1:]), fresh)
    elif how == 18 and random.randrange(8) == 0:
        shutil.rmtree(random.choice(dirs[1:]))
    elif how == 19:
        os.link(old, fresh, follow_symlinks=False)
        files.append(fresh)
    elif how == 20 and len(dirs) > 3 and random.randrange(4) == 0:
        # An ordinary user closes it to himself by that.
        os.chmod(random.choice(dirs[1:]), random.choice([0o555, 0o755, 0o700]))


def calls_of(words):
    """How many of the calls that change something a command makes: known from earlier rounds, else a guess."""
    return calls_of.known.get(words[1], 1000)


calls_of.known = {}


def killed(words, longest):
    """Runs a command and kills it; says whether it ended by itself before. `longest` is how long it may run, in seconds."""
    how = random.choice(["moment", "stopped", "call", "call"] if STRACE else ["moment", "stopped"])
    if how == "call":
        at, log = random.randrange(1, calls_of(words) * 5 // 4), work + "/calls"
        inject = "inject=%s:signal=SIGKILL:when=%d" % (CALLS, at)
        done = subprocess.run(
            [STRACE, "-f", "-qq", "-o", log, "-e", "trace=" + CALLS, "-e", inject, *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120,
        )
        ended = done.returncode == 0
        if ended:
            with open(log, "rb") as file:
                calls_of.known[words[1]] = max(20, sum(1 for _ in file))
    else:
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0, longest))
        if how == "stopped":
            child.send_signal(signal.SIGSTOP)
            time.sleep(random.uniform(0, 0.02))
        child.kill()
        ended = child.wait() == 0
    count("%s %s: %s" % (words[1], how, "ended before" if ended else "killed"))
    return ended


def interrupted():
    """Whether something waits to be ended. If so, every command says it; if not, they work."""
    found, _ = run(scrubfs, "status", lower, expect=(0, 4))
    if found == 4:
        for words in random.sample([["diff"], ["apply"], ["undo"], ["discard"], ["status", "--json"], ["remove", "--force"]], 2):
            run(scrubfs, words[0], lower, *words[1:], expect=(4,))
        count("interrupted")
    return found == 4


def recover(longest):
    """Ends what is interrupted; says which way, or `None` if nothing was."""
    way = random.choice(["--continue", "--abort"])
    for _ in range(4):
        if not interrupted():
            return None
        if random.randrange(3):
            break
        killed([scrubfs, "apply", lower, way], longest)
        count("recovery killed")
    else:
        if not interrupted():
            return None
    run(scrubfs, "apply", lower, way)
    count("recovered " + way)
    assert run(scrubfs, "status", lower)[0] == 0
    return way


def check_rest(after, mounted, applied):
    """No journal, no staged file; merged is what it was before the command, whichever way it went."""
    names = os.listdir(session())
    assert not [n for n in names if "journal" in n], "left in the session: %s" % names
    assert not os.listdir(session() + "/work"), "work/ is not empty"
    if not mounted:
        mount()
    now = shown(tree(merged))
    if now != after:
        time.sleep(1.5)
        print("merged was another tree, mounted %s, applied %s, %s: %s; later the same: %s" % (mounted, applied, history[-3:], difference(after, now), shown(tree(merged)) == after))
    assert now == after, "merged is another tree: " + difference(after, now)
    for path, content in HIDDEN.items():
        with open(os.path.join(lower, path), "rb") as file:
            assert file.read() == content, path + " is not as it was"
    if applied:
        assert b'"changes":[]' in run(scrubfs, "status", lower, "--json")[1].replace(b" ", b"").replace(b"\n", b""), "something is left to apply"


def transaction(words, before, after, mounted, longest):
    """Kills one, ends it, and says whether lower is as after. `before` and `after` are what is shown of lower."""
    ended = killed(words, longest)
    way = recover(longest)
    now = shown(tree(lower))
    if ended:
        assert now == after, "it was reported as done: " + difference(after, now)
    assert now in (before, after), "torn after %s:\nbefore: %s\nafter: %s" % (way, difference(before, now), difference(after, now))
    count("as after" if now == after else "as before")
    return now == after


def one_round(longest):
    before = shown(tree(lower))
    agent(random.randrange(30, 300))
    after = shown(tree(merged))
    if after == before:
        return
    mounted = random.randrange(2) == 0
    if not mounted:
        unmount()
    applied = transaction(APPLY, before, after, mounted, longest)
    check_rest(after, mounted, applied)
    if not applied:
        if random.randrange(2):
            return discard(before, after, longest)
        run(*APPLY)
    if random.randrange(2):
        mounted = random.randrange(2) == 0
        if not mounted:
            unmount()
        undone = transaction([scrubfs, "undo", lower], after, before, mounted, longest)
        # What was applied is a change of the session again.
        check_rest(after, mounted, not undone)
        if undone:
            discard(before, after, longest)


def discard(before, after, longest):
    """Lower is not touched, each path is dropped or not, and a second discard drops the rest."""
    killed([scrubfs, "discard", lower], longest / 2)
    recover(longest)
    now = shown(tree(lower))
    assert now == before, "discard wrote to lower: " + difference(before, now)
    now = shown(tree(merged))
    strange = [p for p, what in now.items() if stat.S_ISREG(what[0]) and what[4] not in [t[p][4] for t in (before, after) if p in t]]
    assert not strange, "neither of lower nor of the agent: %s" % strange[:3]
    run(scrubfs, "discard", lower)
    now = shown(tree(merged))
    assert now == before, "what was discarded still shows: " + difference(before, now)
    names = {}
    for at, _, files in os.walk(lower):
        for path in (os.path.join(at, name) for name in files):
            names.setdefault(os.lstat(path).st_ino, []).append(os.path.relpath(path, lower))
    for those in names.values():
        several = {os.lstat(os.path.join(merged, path)).st_ino for path in those if path not in HIDDEN}
        assert len(several) < 2, "names of one file are several: %s" % those
    count("discarded")


def clean_up():
    subprocess.run([scrubfs, "unmount", lower], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open("/proc/self/mountinfo") as table:
        left = [line.split()[4] for line in table if line.split()[4].startswith(work + "/")]
    for at in reversed(left):
        subprocess.run(["umount", "-l", at])
    subprocess.run(["chmod", "-R", "u+rwx", work])
    shutil.rmtree(work, ignore_errors=True)


def main():
    for sub in ("lower", "mnt", "config", "state"):
        os.mkdir(work + "/" + sub)
    random.seed(seed)
    print("%d rounds, seed %d" % (rounds, seed), flush=True)
    make_lower()
    began = time.time()
    mount()
    agent(200)
    started = time.time()
    run(*APPLY)
    longest = (time.time() - started) * 1.2
    print("an apply takes %.2f s" % longest, flush=True)
    for n in range(1, rounds + 1):
        try:
            one_round(longest)
        except BaseException:
            print("FAILED in round %d of seed %d" % (n, seed), flush=True)
            raise
        if n % 20 == 0:
            print("round %d, %d s: %s" % (n, time.time() - began, counts), flush=True)
    kills = sum(n for what, n in counts.items() if what.endswith(": killed"))
    print("%d rounds, %d kills, 0 torn, in %d s: %s" % (rounds, kills, time.time() - began, counts))
    assert kills >= rounds // 2, "hardly anything was killed"


try:
    main()
finally:
    if os.environ.get("SCRUBFS_KEEP"):
        print("kept", work)
    else:
        clean_up()
