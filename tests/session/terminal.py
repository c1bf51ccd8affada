"""A person at a terminal, with a shell that runs things in `scrubfs run`: keys, job control, window size, the exit status. Ends with 0 if
all went as without `run`."""
import fcntl, os, pty, select, struct, sys, termios, time

helper = sys.argv[1]
pid, fd = pty.fork()
if pid == 0:
    os.environ["PS1"] = "OUT> "
    os.execvp("bash", ["bash", "--norc", "--noediting", "-i"])

seen = ""


def expect(text, why, limit=20):
    """Waits for text in what was not looked at yet."""
    global seen
    end = time.time() + limit
    while text not in seen:
        left = end - time.time()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            sys.exit("%s: %r did not come, only %r" % (why, text, seen))
        seen += os.read(fd, 65536).decode(errors="replace")
    seen = seen[seen.index(text) + len(text) :]


def send(text):
    os.write(fd, text.encode())


def type_in(line):
    """A line, and past its echo."""
    send(line + "\n")
    expect(line[-12:], "echo")


expect("OUT> ", "the shell's prompt")
type_in(helper + " run . -- sh -c 'echo runs; exec sleep 60'")
expect("runs", "a program in the foreground")
time.sleep(0.2)
send("\x1a")
expect("Stopped", "Ctrl-Z")
expect("OUT> ", "the prompt")
type_in("jobs")
expect("Stopped", "jobs")
expect("OUT> ", "the prompt")
type_in("fg")
time.sleep(0.3)
send("\x03")
expect("OUT> ", "Ctrl-C")
type_in("echo status=$?")
expect("status=130", "the status after Ctrl-C")
expect("OUT> ", "the prompt")

type_in("PS1='IN> ' " + helper + " run . -- bash --norc --noediting -i")
expect("IN> ", "an interactive shell inside")
type_in("sleep 60")
time.sleep(0.3)
send("\x1a")
expect("Stopped", "Ctrl-Z inside")
expect("IN> ", "the prompt")
type_in("bg; jobs; fg")
expect("sleep 60", "jobs inside")
time.sleep(0.3)
send("\x03")
expect("IN> ", "Ctrl-C inside")
type_in("tty; [ -t 0 ] && echo on-a-terminal-$((40 + 2))")
expect("/dev/pts/", "the terminal's name")
expect("on-a-terminal-42", "the terminal")
expect("IN> ", "the prompt")
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
type_in("stty size")
expect("33 99", "the window's size")
expect("IN> ", "the prompt")
type_in("kill -STOP $$")
expect("Stopped", "the shell inside is stopped, and the terminal is the outer one's again")
expect("OUT> ", "the outer prompt")
type_in("fg")
expect("run", "fg")
type_in("echo back-$((40 + 2))")
expect("back-42", "going on inside")
expect("IN> ", "the prompt")
type_in("exit 5")
expect("OUT> ", "leaving")
type_in("echo status=$?")
expect("status=5", "the status")
expect("OUT> ", "the prompt")
type_in(helper + " run . -- cat < /etc/hostname | tr a-z A-Z; echo done-$((40 + 2))")
expect("done-42", "a pipeline")
expect("OUT> ", "the prompt")
type_in("exit")
os.waitpid(pid, 0)
print("all as without it")
