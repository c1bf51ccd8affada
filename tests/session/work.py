"""An agent's working day inside `scrubfs run`: a long-lived shell, background jobs, git, editors, a server that watches files. Prints one line a
thing, and ends with 0 if all were as outside."""
import ctypes, os, select, shutil, struct, subprocess, sys, threading, time
import http.server, urllib.request

libc = ctypes.CDLL(None, use_errno=True)
failed = []
os.environ.update(GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b", GIT_CONFIG_GLOBAL="/dev/null")


def check(name, ok, why=""):
    print(("     " if ok else "FAIL ") + name + (": %s" % why if not ok else ""), flush=True)
    if not ok:
        failed.append(name)


def out(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


class Watch:
    """inotify(7) on one directory."""

    names = {2: "modify", 8: "close-write", 64: "moved-from", 128: "moved-to", 256: "create", 512: "delete", 4: "attrib"}

    def __init__(self, path):
        self.fd = libc.inotify_init1(os.O_NONBLOCK)
        assert self.fd >= 0 and libc.inotify_add_watch(self.fd, os.fsencode(path), sum(self.names)) >= 0

    def seen(self, wanted, limit=10.0):
        """Whether all of the wanted (event, name) come within a time."""
        left, end = set(wanted), time.time() + limit
        while left and select.select([self.fd], [], [], max(0.0, end - time.time()))[0]:
            data = os.read(self.fd, 65536)
            while data:
                _, mask, _, length = struct.unpack("iIII", data[:16])
                name = data[16 : 16 + length].rstrip(b"\0").decode()
                data = data[16 + length :]
                left -= {(self.names.get(mask & 0xFFF, mask), name)}
            if time.time() > end:
                break
        return not left, left


# ------------------------------------------------------------------ a shell that lives long, with jobs in the background

shell = subprocess.Popen(["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def shell_says(line):
    shell.stdin.write(line + "\n")
    return shell.stdout.readline().strip()


check("a shell", shell_says("cd sub && pwd") == os.getcwd() + "/sub")
check("a job in the background", shell_says("sleep 100 & jobs -r | wc -l") == "1")
check("its file grows", shell_says("(for i in 1 2 3 4 5; do echo $i; sleep 0.1; done >grows) & wait %2; tail -1 grows") == "5")
check("the shell remembers", shell_says("echo $OLDPWD") == os.getcwd())
check("a job is ended", shell_says("kill %1; wait %1 2>/dev/null; echo $?") == "143")
shell.stdin.close()
check("the shell ends", shell.wait(20) == 0)

# ------------------------------------------------------------------ git

check("git init", out("git", "init", "-q", "-b", "main").returncode == 0)
open(".gitignore", "w").write("grows\n__pycache__\n")
check("git add", out("git", "add", "-A").returncode == 0)
commit = out("git", "commit", "-qm", "first")
check("git commit", commit.returncode == 0, commit.stderr)
check("nothing secret is committed", ".env" not in out("git", "ls-files").stdout)
check("git status is clean", out("git", "status", "--porcelain").stdout == "")
open("plain", "a").write("more\n")
check("git sees an edit", out("git", "status", "--porcelain").stdout == " M plain\n")
check("git stash and pop", out("git", "stash", "-q").returncode == 0 and out("git", "stash", "pop", "-q").returncode == 0)
check("git branch, commit, merge", all(out("git", *w.split()).returncode == 0 for w in ("checkout -qb topic", "commit -qam second", "checkout -q main", "merge -q topic")))
check("git worktree", out("git", "worktree", "add", "-q", "../tree" if os.access("..", os.W_OK) else "tree").returncode == 0)
check("git gc and fsck", out("git", "gc", "-q").returncode == 0 and out("git", "fsck", "--strict").returncode == 0)

# ------------------------------------------------------------------ editors

vi = shutil.which("vim") or shutil.which("vi")
if vi:
    edited = out(vi, "-u", "NONE", "-es", "-c", "set nocp bk bdir=. dir=. | %s/inner/edited/ | wq", "sub/inner")
    check("vi with swap file and backup", open("sub/inner").read() == "edited\n", edited.stdout + edited.stderr)
open("sub/.inner.tmp", "w").write("replaced\n")
os.rename("sub/.inner.tmp", "sub/inner")
check("an editor that renames over", open("sub/inner").read() == "replaced\n")
check("sed -i", out("sed", "-i", "s/replaced/again/", "sub/inner").returncode == 0 and open("sub/inner").read() == "again\n")

# ------------------------------------------------------------------ a server that watches files, and serves them

watch = Watch("sub")
here = os.getcwd()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
server.RequestHandlerClass.log_message = lambda *a: None
threading.Thread(target=server.serve_forever, daemon=True).start()


def fetch(path):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open("http://127.0.0.1:%d/%s" % (server.server_port, path), timeout=20) as r:
        return r.read().decode()


out("sh", "-c", "echo new > sub/page; echo changed > sub/inner; mv sub/page sub/page2; rm sub/page2")
wanted = [("create", "page"), ("close-write", "page"), ("modify", "inner"), ("moved-from", "page"), ("moved-to", "page2"), ("delete", "page2")]
check("events of changes through the view", *watch.seen(wanted))
check("the server serves what was written", fetch("sub/inner") == "changed\n")
os.rename("sub/inner", "sub/inner2")
check("events of the own process", *watch.seen([("moved-to", "inner2")]))
check("the server sees the new name", fetch("sub/inner2") == "changed\n")

# A change on the host: told to the reader within a second, to a watcher not at all (a limit of FUSE, which has no message for it but "deleted").
print("ready for the host", flush=True)
end = time.time() + 10
while time.time() < end and not os.path.exists("from-host"):
    time.sleep(0.02)
check("a file of the host appears", os.path.exists("from-host") and open("from-host").read() == "host\n")

print("%d failed" % len(failed))
sys.exit(1 if failed else 0)
