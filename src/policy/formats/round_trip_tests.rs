//! What must hold of every format: masks come back after edits, no text is too odd, encodings make no difference, and what hidden files
//! hold is known elsewhere.

use super::tests::{examples, masked, rules};
use super::*;
use crate::path::RelPath;
use crate::policy::{KnownValues, PathAction, PathVerdict, Policy, restore};

/// A small generator, so that failures come again.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).unwrap()
    }
}

/// Secrets long enough for masks that look like nothing else.
const SECRETS: &[&str] = &[
    "Zx81kQpLmN44vRt0Yw",
    "Qq92jWsDfG55hBn1Ux",
    "hunter2-hunter3",
    "aGVsbG8gd29ybGQgIQ==",
    "s3cr3t",
    "9f86d081884c7d65",
];

/// The edits that programs make: lines inserted, removed, doubled and moved. The same steps for any text with the same lines.
fn edit(text: &str, seed: u64) -> String {
    let mut random = Random(seed * 2 + 1);
    let mut lines: Vec<String> = text.split('\n').map(Into::into).collect();
    for step in 0..4 {
        let (at, other) = (random.below(lines.len()), random.below(lines.len()));
        match random.below(4) {
            0 => lines.insert(at, format!("new line {step}")),
            1 if lines.len() > 2 => drop(lines.remove(at)),
            2 => lines.insert(at, lines[other].clone()),
            _ => lines.swap(at, other),
        }
    }
    lines.join("\n")
}

#[test]
fn edited_masks_become_the_real_values_again() {
    let rules = rules();
    let mut restored = 0;
    for format in Format::ALL {
        for (n, example) in examples(*format).iter().enumerate() {
            for (seed, secret) in (1..).zip(SECRETS) {
                let text = example.replace("hunter22", secret);
                let (shown, masks) = masked(&rules, *format, text.as_bytes());
                let shown = String::from_utf8(shown).unwrap();
                assert_eq!(
                    restore(text.as_bytes(), &masks, shown.as_bytes()).bytes,
                    text.as_bytes(),
                    "{format:?}: {shown}"
                );
                if masks.0.iter().any(|m| m.bytes.len() < 12 && m.bytes.contains(&b'\n')) {
                    // One letter in a line leaves no trace.
                    continue;
                }
                // A value over several lines may be torn apart by moving lines: that is damage, and told.
                let edited = edit(&shown, seed * 31 + n as u64);
                let back = restore(text.as_bytes(), &masks, edited.as_bytes());
                if back.damaged.is_empty() {
                    restored += back.restored;
                    let expected = edit(&text, seed * 31 + n as u64);
                    // Values of fewer bytes than a mask needs to be told apart are damage or right, never wrong.
                    assert_eq!(
                        String::from_utf8(back.bytes).unwrap(),
                        expected,
                        "{format:?}:\n{shown}\n--- edited:\n{edited}"
                    );
                }
            }
        }
    }
    assert!(restored > 500, "{restored}");
}

#[test]
fn a_line_beside_the_masks_can_be_edited_in_every_format() {
    let rules = rules();
    for format in Format::ALL {
        for example in examples(*format) {
            let text = example.replace("hunter22", "Zx81kQpLmN44vRt0Yw");
            let (shown, masks) = masked(&rules, *format, text.as_bytes());
            let edited = [b"x\n", shown.as_slice(), b"\ny\n"].concat();
            let back = restore(text.as_bytes(), &masks, &edited);
            assert_eq!(back.damaged, [0usize; 0], "{format:?}: {}", String::from_utf8_lossy(&shown));
            assert_eq!(back.bytes, [b"x\n", text.as_bytes(), b"\ny\n"].concat(), "{format:?}");
        }
    }
}

/// What formats are made of.
const ODD: &[&[u8]] = &[
    b"password",
    b"token: ",
    b"=",
    b":",
    b"\"",
    b"'",
    b"`",
    b"\\",
    b"\n",
    b"\r\n",
    b"  ",
    b"\t",
    b"{",
    b"}",
    b"[",
    b"]",
    b"<",
    b">",
    b"</a>",
    b"<key>",
    b"|",
    b"- ",
    b"---",
    b"#",
    b"//",
    b"/*",
    b"*/",
    b"${",
    b"}",
    b"<<EOF",
    b"EOF",
    b"\"\"\"",
    b"&a",
    b"*a",
    b"!x",
    b"hunter2",
    b"\xff",
    b"\xe9",
    b"\0",
    b"://",
    b"@",
    b",",
    b";",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"-->",
    b"name",
    b"value",
    b"kind: Secret",
    b"data",
    b"-----BEGIN X-----",
    b"$(",
    b"macdef a",
];

#[test]
fn no_text_is_too_odd() {
    let rules = rules();
    let mut random = Random(77);
    for _ in 0..800 {
        let text: Vec<u8> =
            (0..random.below(40)).flat_map(|_| ODD[random.below(ODD.len())].to_vec()).collect();
        for format in Format::ALL {
            for all in [false, true] {
                for span in rules.spans((*format).into(), &text, all) {
                    assert!(span.len > 0 && span.start + span.len <= text.len() as u64, "{format:?}");
                }
            }
        }
    }
}

#[test]
fn users_add_names_and_errors_say_where() {
    let build = |text: &str| {
        let mut builder = crate::policy::PolicyBuilder::builtin();
        builder.user_rules(text, "my.toml").unwrap().build()
    };
    let text = b"{\"shibboleth\": \"hunter-2-22\", \"db_password\": \"hunter-2-33\"}";
    let found = |policy: &Policy| policy.scan(&redact(Format::Json), text, None).len();
    let rule = "[[keyname]]\nid = \"mine\"\nnames = [\"shibboleth\"]\nexamples = [\"myShibboleth\"]\n";
    assert_eq!(found(&Policy::builtin()), 1);
    assert_eq!(found(&build(rule).unwrap()), 2);
    assert_eq!(found(&build("disable = [\"key-password\"]").unwrap()), 0);
    for (text, expected) in [
        (
            "\n[[keyname]]\nid = \"mine\"\nnames = [\"Bad Name\"]",
            "my.toml, line 2, rule `mine`: `Bad Name` is not made of",
        ),
        (
            "[[keyname]]\nid = \"mine\"\nnames = [\"x\"]\nexamples = [\"y\"]",
            "my.toml, line 1, rule `mine`: its example `y`",
        ),
        ("[[keyname]]\nid = \"mine\"\nnames = 5", "my.toml, line 3, rule `mine`: "),
        ("[[setting]]\nid = \"mine\"", "my.toml, line 1, rule `mine`: a setting has none of"),
    ] {
        let error = build(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let mut workspace = crate::policy::PolicyBuilder::builtin();
    workspace.workspace_rules("[[setting]]\nid = \"x\"\nnames = [\"password\"]", ".scrubfs.toml").unwrap();
    assert!(workspace.build().unwrap_err().to_string().contains("cannot say what is harmless"));
}

fn redact(format: Format) -> PathVerdict {
    PathVerdict { action: PathAction::Redact(format.into()), rule: None }
}

#[test]
fn encodings_make_no_difference() {
    let policy = Policy::builtin();
    for (format, text) in [
        (Format::Yaml, "db:\n  user: app\n  password: hunter-2-22\n  port: 5432\n"),
        (Format::Json, "{\"password\": \"hunter-2-22\", \"user\": \"app\"}\n"),
        (Format::Dotenv, "FOO=hunter-2-22\nPORT=80\n"),
        (Format::Ini, "[a]\npassword = hunter-2-22\nuser = app\n"),
        (Format::Xml, "<a><password>hunter-2-22</password></a>\n"),
        (Format::Properties, "db.password=hunter-2-22\ndb.user=app\n"),
    ] {
        let text = text.replace('\n', "\r\n");
        let at = text.find("hunter").unwrap() as u64;
        let spans = |bytes: &[u8]| {
            policy.scan(&redact(format), bytes, None).iter().map(|s| (s.start, s.len)).collect::<Vec<_>>()
        };
        assert_eq!(spans(text.as_bytes()), [(at, 11)], "{format:?}");
        assert_eq!(spans(format!("\u{feff}{text}").as_bytes()), [(at + 3, 11)], "{format:?}");
        for little in [true, false] {
            let units = format!("\u{feff}{text}");
            let bytes: Vec<u8> = units
                .encode_utf16()
                .flat_map(|u| if little { u.to_le_bytes() } else { u.to_be_bytes() })
                .collect();
            assert_eq!(spans(&bytes), [(2 * at + 2, 22)], "{format:?}");
        }
        // What is no text in a format of text is masked whole.
        let odd = [b"\0\x01\x02", text.as_bytes()].concat();
        assert_eq!(spans(&odd).first().map(|s| s.0), Some(0), "{format:?}");
    }
}

#[test]
fn what_a_hidden_file_holds_is_known() {
    let policy = Policy::builtin();
    let knows = |path: &str, text: &str, value: &str| {
        let path = RelPath::parse(path).unwrap();
        let verdict = policy.path(&path, crate::policy::Kind::File);
        let mut known = KnownValues::new();
        policy.learn(&path, &verdict, text.as_bytes(), &mut known);
        !known.build().find(value.as_bytes()).is_empty()
    };
    for value in ["SuperSecretPass!", "correcthorsebatterystaple", "hunter2-hunter3", "Tr0ub4dor&3xyz"] {
        assert!(knows(".env", &format!("DB_PASSWORD={value}\n"), value), "env {value}");
        assert!(knows(".netrc", &format!("machine h login l password {value}\n"), value), "{value}");
        assert!(knows("config.json", &format!("{{\"password\": \"{value}\"}}"), value), "{value}");
        assert!(knows("database.yml", &format!("x:\n  password: {value}\n"), value), "{value}");
    }
    assert!(knows(".env", "FOO=q8Zk3LmPw0TtYv7RnB2c\n", "q8Zk3LmPw0TtYv7RnB2c"));
    assert!(knows(".vault-token", "q8Zk3LmPw0TtYv7RnB2c\n", "q8Zk3LmPw0TtYv7RnB2c"));
    for value in [
        "localhost:5432/app",
        "production-environment",
        "/usr/share/app/data",
        "https://example.com/app",
        "my-release-db",
        "application",
    ] {
        for key in ["FOO", "DB_PASSWORD"] {
            assert!(!knows(".env", &format!("{key}={value}\n"), value), "{key}={value}");
        }
    }
}
