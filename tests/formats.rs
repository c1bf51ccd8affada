//! Files of every format with a plain password in them, through a real mount: never shown, still read by other people's parsers, edited
//! there, and whole again after `apply`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

const CANARY: &str = "canary7-Plain-pw";

/// Files whose values are masked, with a line that is edited: `5432` becomes `6432`.
const FILES: &[(&str, &str)] = &[
    (".env", "# settings\nDB_PASSWORD=CANARY\nWHATEVER='CANARY'\nPORT=5432\n"),
    (".npmrc", "//registry.example.com/:_authToken=CANARY\nfetch-timeout=5432\n"),
    (".pypirc", "[pypi]\nusername = u5432\npassword = CANARY\n"),
    (".netrc", "machine h5432 login me password CANARY\n"),
    (".pgpass", "localhost:5432:db:me:CANARY\n"),
    (".my.cnf", "[client]\nport = 5432\npassword = CANARY\n"),
    (".gitconfig", "[remote \"o\"]\n\turl = https://me:CANARY@example.com/5432.git\n"),
    ("config.json", "{\"db\": {\"password\": \"CANARY\", \"port\": 5432}}\n"),
    (".dockercfg", "{\"h:5432\": {\"auth\": \"CANARY\"}}\n"),
    ("notebook.ipynb", "{\"cells\": [{\"source\": [\"password = \\\"CANARY\\\"\\n\", \"port = 5432\"]}]}\n"),
    (
        "docker-compose.yml",
        "services:\n  db:\n    environment:\n      - PG_PASSWORD=CANARY\n    ports: ['5432']\n",
    ),
    ("values.yaml", "auth:\n  password: \"CANARY\"\n  key: |\n    a\nport: 5432\n---\nsecret: CANARY\n"),
    ("pyproject.toml", "[tool.x]\nport = 5432\ntoken = \"CANARY\"\n"),
    ("settings.xml", "<s><port>5432</port><password>CANARY</password></s>\n"),
    ("gradle.properties", "storePassword=CANARY\nport=5432\n"),
    ("prod.tfvars", "db_password = \"CANARY\"\nport = 5432\n"),
    ("env.sh", "export DB_PASSWORD=\"CANARY\"\nexport PORT=5432\n"),
    ("settings.py", "DB_PASSWORD = \"CANARY\"\nPORT = 5432\n"),
    // Nothing but a known value.
    ("src/main.rs", "// CANARY 5432\n"),
];

const PARSE: &str = r#"
import json, tomllib, configparser, xml.etree.ElementTree as xml
for name in ["config.json", ".dockercfg", "notebook.ipynb"]: json.load(open(name))
tomllib.load(open("pyproject.toml", "rb"))
for name in [".pypirc", ".my.cnf"]: assert configparser.ConfigParser().read(name)
xml.parse("settings.xml")
compile(open("settings.py").read(), "settings.py", "exec")
try: import yaml
except ImportError: pass
else:
    for name in ["docker-compose.yml", "values.yaml"]: list(yaml.safe_load_all(open(name)))
"#;

/// Unmounts also when an assertion fails.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-lq").arg(self.0).status().ok();
        Command::new("fusermount3").arg("-uzq").arg(self.0).status().ok();
    }
}

#[test]
fn plain_passwords_are_masked_in_every_format_and_come_back() {
    if fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
        assert!(std::env::var_os("SCRUBFS_REQUIRE_FUSE").is_none(), "/dev/fuse cannot be opened");
        eprintln!("skipped: /dev/fuse cannot be opened");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let (repo, mount) = (root.join("repo"), root.join("mnt"));
    fs::create_dir_all(repo.join("src")).unwrap();
    fs::create_dir_all(&mount).unwrap();
    let _unmount = Unmount(&mount);
    for (name, text) in FILES {
        fs::write(repo.join(name), text.replace("CANARY", CANARY)).unwrap();
    }
    let run = |program: &str, args: &[&str], at: &Path| {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "120", program]).args(args).current_dir(at).env("HOME", &root);
        command.env("SCRUBFS_STATE_DIR", root.join("state")).env("SCRUBFS_CONFIG_DIR", root.join("config"));
        let out = command.output().unwrap();
        let all = [out.stdout, out.stderr].concat();
        let all = String::from_utf8_lossy(&all).into_owned();
        assert!(out.status.success(), "{program} {args:?}: {all}");
        assert!(!all.contains("canary7"), "{program} {args:?} shows a secret: {all}");
    };
    let scrubfs = env!("CARGO_BIN_EXE_scrubfs");
    let shown = ["--redact", ".env", "--redact", ".netrc", "--redact", ".pgpass"];
    run(scrubfs, &[&["mount", ".", "--at", mount.to_str().unwrap()], &shown[..]].concat(), &repo);
    for (name, text) in FILES {
        let seen = fs::read_to_string(mount.join(name)).unwrap();
        assert!(
            !seen.contains("canary7") && seen.len() == text.replace("CANARY", CANARY).len(),
            "{name}: {seen}"
        );
        assert!(seen.contains("5432"), "{name}: {seen}");
        fs::write(mount.join(name), seen.replace("5432", "6432")).unwrap();
    }
    run("python3", &["-c", PARSE], &mount);
    run(scrubfs, &["diff", "."], &repo);
    run(scrubfs, &["apply", ".", "--allow", "redacted", "--allow", "secret", "--allow", "auto-exec"], &repo);
    for (name, text) in FILES {
        let expected = text.replace("CANARY", CANARY).replace("5432", "6432");
        assert_eq!(fs::read_to_string(repo.join(name)).unwrap(), expected, "{name}");
    }
    run(scrubfs, &["unmount", "."], &repo);
}
