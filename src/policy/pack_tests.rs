//! The built-in path rules test themselves: every example, every counter-example, and what must hold of all.

use std::collections::BTreeSet;

use super::*;

#[derive(serde::Deserialize)]
struct Pack {
    path: Vec<Rule>,
}

#[derive(serde::Deserialize)]
struct Rule {
    id: String,
    why: String,
    action: String,
    #[serde(rename = "match")]
    patterns: Vec<String>,
    examples: Vec<String>,
    negatives: Vec<String>,
}

fn pack() -> Vec<Rule> {
    toml::from_str::<Pack>(ruleset::BUILTIN).unwrap().path
}

fn judge(policy: &Policy, path: &str) -> PathVerdict {
    let kind = if path.ends_with('/') { Kind::Dir } else { Kind::File };
    policy.path(&RelPath::parse(path.trim_end_matches('/')).unwrap(), kind)
}

fn rule_of(policy: &Policy, path: &str) -> String {
    judge(policy, path).rule.map_or_else(|| "nothing".into(), |id| policy.rule(id).id.to_string())
}

fn action_of(policy: &Policy, path: &str) -> &'static str {
    match judge(policy, path).action {
        PathAction::Plain => "plain",
        PathAction::Open => "open",
        PathAction::Gate => "gate",
        PathAction::Redact(_) => "redact",
        PathAction::Hide => "hide",
        PathAction::Clear => "clear",
    }
}

#[test]
fn every_example_is_decided_by_its_rule() {
    let policy = PolicyBuilder::builtin().build().unwrap();
    let mut wrong = Vec::new();
    for rule in pack() {
        for example in &rule.examples {
            for path in [example.clone(), format!("some/Deep dir/{example}"), example.to_uppercase()] {
                let got = (rule_of(&policy, &path), action_of(&policy, &path));
                if got != (rule.id.clone(), rule.action.as_str()) {
                    wrong.push(format!("{}: example {path} is {got:?}", rule.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_counter_example_is_matched_by_its_rule() {
    let policy = PolicyBuilder::builtin().build().unwrap();
    let mut wrong = Vec::new();
    for rule in pack() {
        for negative in &rule.negatives {
            if rule_of(&policy, negative) == rule.id {
                wrong.push(format!("{}: negative {negative}", rule.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_says_what_it_is_for() {
    let mut ids = BTreeSet::new();
    for rule in pack() {
        assert!(ids.insert(rule.id.clone()), "{} is there twice", rule.id);
        assert!(rule.why.len() > 10 && !rule.why.ends_with('.'), "{}: why", rule.id);
        assert!(!rule.examples.is_empty() && !rule.negatives.is_empty(), "{}: examples", rule.id);
        let distinct: BTreeSet<_> = rule.patterns.iter().collect();
        assert_eq!(distinct.len(), rule.patterns.len(), "{}: a pattern is there twice", rule.id);
    }
}

/// A pattern that never decides is dead weight, or hides a mistake: some path made from it must be decided by its rule.
#[test]
fn every_pattern_can_decide() {
    let policy = PolicyBuilder::builtin().build().unwrap();
    let mut dead = Vec::new();
    for rule in pack() {
        for pattern in &rule.patterns {
            let decides = paths_of(pattern).iter().any(|path| {
                let by = rule_of(&policy, path);
                // Another rule may say the same of a directory that this one says of what is in it.
                by == rule.id
            });
            if !decides {
                let paths = paths_of(pattern);
                let by: Vec<_> = paths.iter().map(|p| format!("{p} by {}", rule_of(&policy, p))).collect();
                dead.push(format!("{}: {pattern}: {}", rule.id, by.join(", ")));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// Paths that a pattern matches.
fn paths_of(pattern: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let alternatives: Vec<String> = match c {
            '{' => {
                let (inner, after) = rest.split_once('}').unwrap();
                rest = after;
                inner.split(',').map(Into::into).collect()
            }
            '[' => {
                let (inner, after) = rest.split_once(']').unwrap();
                rest = after;
                vec![inner.chars().next().unwrap().into()]
            }
            '*' => {
                rest = rest.trim_start_matches('*');
                vec!["zq".into()]
            }
            c => vec![c.into()],
        };
        all = all.iter().flat_map(|head| alternatives.iter().map(move |a| format!("{head}{a}"))).collect();
    }
    all
}

const DEPTHS: [&str; 3] = ["", "sub/", "a/b.c/Some Dir/d/"];

#[test]
fn the_table_is_hidden_at_every_depth_and_in_any_case() {
    let policy = Policy::builtin();
    let table = "
        .env .env.local .env.production .env.anything prod.env .envrc .git-credentials .netrc .aws/ .azure/ .config/gcloud/ .kube/
        .docker/config.json prod-service-account.json application_default_credentials.json a.p12 a.pfx a.jks a.ppk .ssh/
        id_rsa id_ed25519 id_ecdsa id_dsa .gnupg/";
    for name in table.split_whitespace() {
        for depth in DEPTHS {
            for path in [format!("{depth}{name}"), format!("{depth}{name}").to_uppercase()] {
                assert_eq!(action_of(&policy, &path), "hide", "{path}");
            }
        }
    }
    for name in ["a.pem", "a.key", "TLS.KEY", "sub/x.PEM"] {
        assert_eq!(action_of(&policy, name), "gate", "{name}");
    }
    for name in [".npmrc", ".pypirc", "SUB/.NPMRC"] {
        assert_eq!(action_of(&policy, name), "redact", "{name}");
    }
    let beneath = RelPath::parse("x/.aws/sso/cache/y.json").unwrap();
    assert_eq!(policy.path_and_parents(&beneath, Kind::File).action, PathAction::Hide);
    for name in [
        ".env.example",
        ".env.sample",
        ".env.template",
        ".env.dist",
        ".env.defaults",
        "id_rsa.pub",
        "known_hosts",
    ] {
        for depth in DEPTHS {
            assert_eq!(action_of(&policy, &format!("{depth}{name}")), "open", "{depth}{name}");
        }
    }
}

#[test]
fn copies_of_credential_files_are_hidden() {
    let policy = Policy::builtin();
    let copies = "
        .env~ .env.bak #.env# .#.env .env.swp .env.un~ id_rsa~ id_rsa.old .npmrc.bak .npmrc~ .npmrc.swp #.npmrc# .pypirc.orig .netrc.1
        .git-credentials.old .pgpass.bak prod-service-account.json~ kubeconfig.bak prod.tfvars.orig secrets.json.gz terraform.tfstate.1
        credentials.backup.json x.p12.bak .htpasswd.save .mcp.json.tmp auth.json.2024-05-01";
    for name in copies.split_whitespace() {
        assert_eq!(action_of(&policy, name), "hide", "{name}");
    }
    for name in ["server.key.bak", "server.pem~"] {
        assert_eq!(action_of(&policy, name), "gate", "{name}");
    }
    for name in
        ["settings.py~", "config.json.bak", "docker-compose.yml.orig", "settings (1).py", "values.old.yaml"]
    {
        assert_eq!(action_of(&policy, name), "redact", "{name}");
    }
    let link = policy.path(&RelPath::parse(".#.env").unwrap(), Kind::Symlink);
    assert_eq!(link.action, PathAction::Hide, "Emacs' lock is a link");
}

#[test]
fn names_of_ordinary_sources_do_not_vanish() {
    let policy = Policy::builtin();
    let names = "
        secrets.py notes.txt passwords.rs test.key.ts hosts .vscode/settings.json core/ x.core.js logs/ src/ lib/ README.md secrets/
        credentials/ tokens/ keys/ config/ config.json settings.py values.yaml docker-compose.yml app.log schema.sql Dockerfile
        package.json Cargo.toml Cargo.lock tsconfig.json go.mod main.tf index.html password_reset.py auth.rs token.go keyring.c
        env.py environment.ts .github/workflows/ci.yml .gitignore .gitattributes .editorconfig .dockerignore cert.rs vault.go
        test/fixtures/users.csv data.sqlite app.db history.md key.json secret_santa.py credentials.rs id.ts rsa.rs ssh.rs netrc.py
        npmrc.ts core kernel/core.c run/ .config/ .local/ .cache/ .claude/ .claude/settings.json .claude/commands/x.md CLAUDE.md
        .cursor/ .vscode/ .idea/ .git/ .git/config .git/HEAD .git/index .git/objects/ .github/ .husky/ .storybook/ node_modules/
        target/ venv/ .venv/ .env/ .env/bin/python .env/pyvenv.cfg certs/ ca.crt server.crt public.asc wallet.ts mnemonic.rs
        wordlist.txt common-passwords.txt forgot-password.html login.html session.json .terraform.lock.hcl .terraform/ Makefile
        access.log error.log nohup.out cookies.js profile.go .profile .bashrc release.gpg pubring.gpg debug.keystore
        docs/password.rst i18n/password.json .well-known/ .changeset/ .yarn/ .pnp.cjs gradle.properties keystore.properties";
    for name in names.split_whitespace() {
        let action = action_of(&policy, name);
        assert!(
            matches!(action, "plain" | "open" | "redact"),
            "{name}: {action} by {}",
            rule_of(&policy, name)
        );
    }
    for name in
        "README.md src/ main.rs Cargo.lock package.json index.html core core/ logs/ hosts notes.txt .git/HEAD"
            .split_whitespace()
    {
        assert_eq!(action_of(&policy, name), "plain", "{name}");
    }
}

#[test]
fn names_that_are_no_text_are_judged_by_what_is() {
    let policy = Policy::builtin();
    for (bytes, action) in [
        (&b"\xff\xfe.PEM"[..], PathAction::Gate),
        (b"caf\xe9/.env", PathAction::Hide),
        (b"\x80.env", PathAction::Hide),
        (b".env\x80", PathAction::Plain),
        ("K\u{212a}.P12".as_bytes(), PathAction::Hide),
        ("id_r\u{17f}a".as_bytes(), PathAction::Hide),
    ] {
        assert_eq!(
            policy.path(&RelPath::parse(bytes).unwrap(), Kind::File).action,
            action,
            "{}",
            bytes.escape_ascii()
        );
    }
}

/// Random names, made of what rules look at, in every kind: no panic, and upper case changes nothing.
#[test]
fn no_name_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut builder = PolicyBuilder::builtin();
    builder.hide("a?[b-d]*/x").unwrap().show(".aws/x/*").unwrap().redact("conf/").unwrap();
    let policy = builder.build().unwrap();
    let words: Vec<&[u8]> = b".env id_rsa ~ # .bak (1) .swp copy -20240501 .pem * \xff \xc3\xa9 .json config .aws / secrets . .. k"
        .split(|b| *b == b' ')
        .collect();
    for _ in 0..60_000 {
        let mut bytes = Vec::new();
        for _ in 0..=random(8) {
            match random(3) {
                0 => bytes.push(u8::try_from(random(256)).unwrap()),
                _ => bytes.extend_from_slice(words[random(words.len())]),
            }
        }
        let Ok(path) = RelPath::parse(&bytes) else { continue };
        let kind = [Kind::File, Kind::Dir, Kind::Symlink, Kind::Other][random(4)];
        let verdict = policy.path_and_parents(&path, kind);
        let upper = RelPath::parse(bytes.to_ascii_uppercase()).unwrap();
        assert_eq!(policy.path_and_parents(&upper, kind), verdict, "{path}");
        assert!(verdict.rule.is_some() || verdict.action == PathAction::Plain, "{path}");
    }
}
