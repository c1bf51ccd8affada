//! What the user's rules, the workspace's and the command line may do to each other, and what errors say.

use super::*;

fn judge(policy: &Policy, path: &str) -> PathAction {
    let kind = if path.ends_with('/') { Kind::Dir } else { Kind::File };
    policy.path(&RelPath::parse(path.trim_end_matches('/')).unwrap(), kind).action
}

fn user(text: &str) -> Policy {
    PolicyBuilder::builtin().user_rules(text, "rules.toml").unwrap().build().unwrap()
}

fn workspace(text: &str) -> Policy {
    PolicyBuilder::builtin().workspace_rules(text, ".scrubfs.toml").unwrap().build().unwrap()
}

fn options(options: &[(&str, &str)]) -> Policy {
    let mut builder = PolicyBuilder::builtin();
    for (option, pattern) in options {
        match *option {
            "hide" => builder.hide(pattern).unwrap(),
            "redact" => builder.redact(pattern).unwrap(),
            _ => builder.show(pattern).unwrap(),
        };
    }
    builder.build().unwrap()
}

fn error_of(text: &str, origin: Origin) -> RuleError {
    let mut builder = PolicyBuilder::builtin();
    let added = match origin {
        Origin::User => builder.user_rules(text, "my/rules.toml").err(),
        _ => builder.workspace_rules(text, ".scrubfs.toml").err(),
    };
    added.or_else(|| builder.build().err()).unwrap()
}

#[test]
fn a_user_adds_replaces_and_switches_off() {
    let policy = user(
        r#"
        disable = ["direnv-cache"]
        [[path]]
        id = "mine"
        action = "hide"
        match = ["*.mine", "private"]
        examples = ["x.mine", "private/"]
        negatives = ["mine"]
        [[path]]
        id = "dotenv"
        action = "redact"
        [[path]]
        id = "netrc"
        action = "clear"
        [[path]]
        id = "known"
        action = "open"
        match = ["fixtures/*.p12"]
        "#,
    );
    assert_eq!(judge(&policy, ".direnv/"), PathAction::Plain);
    assert_eq!(judge(&policy, "x.mine"), PathAction::Hide);
    assert_eq!(judge(&policy, "a/private/"), PathAction::Hide);
    assert_eq!(
        judge(&policy, ".env"),
        PathAction::Redact(Format::Dotenv.into()),
        "patterns and format are inherited"
    );
    assert_eq!(judge(&policy, ".env.example"), PathAction::Open, "exceptions are inherited");
    assert_eq!(judge(&policy, ".netrc"), PathAction::Clear);
    assert_eq!(judge(&policy, "fixtures/a.p12"), PathAction::Open);
    assert_eq!(judge(&policy, "a.p12"), PathAction::Hide);
    let (id, info) = policy.rules().find(|(_, r)| &*r.id == "dotenv").unwrap();
    assert_eq!((&*info.source, info.line, info.origin), ("rules.toml", 9, Origin::User));
    assert_eq!(policy.rule(id), info);
    assert!(policy.rules().all(|(_, r)| &*r.id != "direnv-cache"));
}

#[test]
fn within_the_users_rules_exceptions_win_then_what_hides_more() {
    let policy = user(
        r#"
        [[path]]
        id = "a"
        action = "redact"
        match = ["*.x"]
        [[path]]
        id = "b"
        action = "hide"
        match = ["*.x"]
        except = ["ok.x"]
        [[path]]
        id = "c"
        action = "clear"
        match = ["mine.x"]
        "#,
    );
    assert_eq!(judge(&policy, "a.x"), PathAction::Hide);
    assert_eq!(judge(&policy, "ok.x"), PathAction::Redact(Format::Text.into()));
    assert_eq!(judge(&policy, "mine.x"), PathAction::Clear);
}

#[test]
fn a_workspace_file_only_adds() {
    let policy = workspace(
        r#"
        [[path]]
        id = "dotenv"
        action = "redact"
        match = [".env", "*.cfg", ".npmrc"]
        [[path]]
        id = "w"
        action = "hide"
        match = [".env.example", "customers/"]
        "#,
    );
    assert_eq!(judge(&policy, ".env"), PathAction::Hide, "a weaker rule with a known id replaces nothing");
    assert_eq!(judge(&policy, ".env.local"), PathAction::Hide);
    assert_eq!(judge(&policy, "x.cfg"), PathAction::Redact(Format::Ini.into()));
    assert_eq!(judge(&policy, ".npmrc"), PathAction::Redact(Format::Npmrc.into()));
    assert_eq!(judge(&policy, ".env.example"), PathAction::Hide);
    assert_eq!(judge(&policy, "customers/"), PathAction::Hide);
    for (text, line) in [
        ("disable = [\n\"dotenv\"]", 2),
        ("[[path]]\nid = \"x\"\naction = \"open\"\nmatch = [\"a\"]", 1),
        ("\n[[path]]\nid = \"x\"\naction = \"clear\"\nmatch = [\"a\"]", 2),
    ] {
        let error = error_of(text, Origin::Workspace);
        assert_eq!(error.line, line, "{error}");
        assert!(error.hint.contains("only hide or redact more"), "{error}: {}", error.hint);
    }
}

#[test]
fn the_workspace_hides_what_the_user_cleared_and_the_command_line_shows_it() {
    let clear = "[[path]]\nid = \"u\"\naction = \"clear\"\nmatch = [\"a.txt\"]";
    let hide = "[[path]]\nid = \"w\"\naction = \"hide\"\nmatch = [\"a.txt\"]";
    let mut builder = PolicyBuilder::builtin();
    builder.workspace_rules(hide, ".scrubfs.toml").unwrap().user_rules(clear, "rules.toml").unwrap();
    assert_eq!(judge(&builder.build().unwrap(), "a.txt"), PathAction::Hide);
    let policy = builder.show("a.txt").unwrap().build().unwrap();
    let verdict = policy.path(&RelPath::parse("a.txt").unwrap(), Kind::File);
    assert_eq!(verdict.action, PathAction::Clear);
    assert!(policy.beats_ignore_files(&verdict));
    let info = policy.rule(verdict.rule.unwrap());
    assert_eq!((&*info.id, &*info.source, info.line), ("a.txt", "--show", 1));
}

#[test]
fn the_last_option_that_names_an_entry_wins() {
    let policy =
        options(&[("hide", "*.txt"), ("show", "ok.txt"), ("redact", "/conf/*.json"), ("show", ".env")]);
    assert_eq!(judge(&policy, "d/A.TXT"), PathAction::Hide);
    assert_eq!(judge(&policy, "d/ok.txt"), PathAction::Clear);
    assert_eq!(judge(&policy, "conf/a.json"), PathAction::Redact(Format::Json.into()));
    assert_eq!(judge(&policy, "x/conf/a.json"), PathAction::Plain);
    assert_eq!(judge(&policy, ".env"), PathAction::Clear);
    assert_eq!(judge(&policy, ".env.local"), PathAction::Hide);
    let policy = options(&[("show", "ok.txt"), ("hide", "*.txt")]);
    assert_eq!(judge(&policy, "ok.txt"), PathAction::Hide);
    let policy = options(&[("redact", ".env"), ("redact", "id_rsa")]);
    assert_eq!(
        judge(&policy, ".env"),
        PathAction::Redact(Format::Dotenv.into()),
        "the format is the known one"
    );
    assert_eq!(judge(&policy, "id_rsa"), PathAction::Redact(Format::Pem.into()));
}

#[test]
fn showing_one_file_opens_only_the_way_to_it() {
    let policy = options(&[("show", ".aws/config"), ("redact", "vault/.ssh/*.cfg")]);
    assert_eq!(judge(&policy, ".aws/"), PathAction::Open);
    assert_eq!(judge(&policy, ".AWS/"), PathAction::Open);
    assert_eq!(judge(&policy, ".aws/config"), PathAction::Clear);
    assert_eq!(judge(&policy, ".aws/credentials"), PathAction::Hide);
    assert_eq!(judge(&policy, ".aws/sso/"), PathAction::Hide);
    assert_eq!(judge(&policy, ".aws/sso/x"), PathAction::Hide);
    assert_eq!(judge(&policy, "x/.aws/"), PathAction::Hide, "the pattern has a slash: from the root only");
    assert_eq!(judge(&policy, "vault/.ssh/"), PathAction::Open);
    assert_eq!(judge(&policy, "vault/.ssh/a.cfg"), PathAction::Redact(Format::Ini.into()));
    assert_eq!(judge(&policy, "vault/.ssh/notes"), PathAction::Hide);
    assert_eq!(judge(&policy, "vault/other"), PathAction::Plain);
    let hidden = policy.path(&RelPath::parse(".aws/sso").unwrap(), Kind::Dir);
    assert_eq!(&*policy.rule(hidden.rule.unwrap()).id, "aws", "the rule that hides the directory is named");
}

#[test]
fn the_way_is_opened_past_the_users_own_hide_but_not_past_a_later_one() {
    let policy = options(&[
        ("hide", "secret/"),
        ("show", "secret/open/a"),
        ("show", "secret/all/"),
        ("show", "secret/all/**"),
    ]);
    assert_eq!(judge(&policy, "secret/"), PathAction::Open);
    assert_eq!(judge(&policy, "secret/open/"), PathAction::Open);
    assert_eq!(judge(&policy, "secret/open/a"), PathAction::Clear);
    assert_eq!(judge(&policy, "secret/open/b"), PathAction::Hide);
    assert_eq!(judge(&policy, "secret/b"), PathAction::Hide);
    assert_eq!(judge(&policy, "secret/all/"), PathAction::Clear);
    assert_eq!(judge(&policy, "secret/all/x/y"), PathAction::Clear);
    let policy = options(&[("show", "secret/a"), ("hide", "secret/")]);
    assert_eq!(judge(&policy, "secret/"), PathAction::Hide);
}

#[test]
fn redacting_a_directory_redacts_at_least_what_is_beneath() {
    let policy = options(&[("hide", "zzz"), ("redact", "conf/")]);
    assert_eq!(judge(&policy, "conf/"), PathAction::Open);
    assert_eq!(judge(&policy, "conf/x/a.yaml"), PathAction::Redact(Format::Yaml.into()));
    assert_eq!(judge(&policy, "conf/.env"), PathAction::Hide);
    assert_eq!(judge(&policy, "a.yaml"), PathAction::Plain);
}

#[test]
fn a_shown_directory_is_shown_and_its_entries_are_judged() {
    let policy = options(&[("show", ".ssh/")]);
    assert_eq!(judge(&policy, ".ssh/"), PathAction::Clear);
    assert_eq!(judge(&policy, ".ssh/id_rsa"), PathAction::Hide);
    assert_eq!(judge(&policy, ".ssh/config"), PathAction::Plain);
}

#[test]
fn errors_name_file_line_rule_and_a_way_out() {
    for (text, line, rule, part) in [
        ("[[path]]\nid = \"a\"\nmatch = [\"x\"\naction = 3", 4, Some("a"), ""),
        ("[[path]]\nid = \"a\"\naction = \"hide\"\nmatch = [\"x\",\n \"\"]", 5, Some("a"), "empty"),
        ("[[path]]\nid = \"a\"\naction = \"hid\"\nmatch = [\"x\"]", 3, Some("a"), "hid"),
        ("[[path]]\nid = \"a\"\naction = \"hide\"\nmatch = [\"x\"]\nmtach = 1", 5, Some("a"), "mtach"),
        ("[[path]]\nid = \"a\"\nmatch = [\"x\"]", 1, Some("a"), "no `action`"),
        ("[[path]]\nid = \"a\"\naction = \"hide\"", 1, Some("a"), "no patterns"),
        ("[[path]]\naction = \"hide\"", 1, None, "id"),
        ("[[path]]\nid = \"a b\"\naction = \"hide\"\nmatch = [\"x\"]", 1, Some("a b"), "id may hold"),
        ("\n[path]\nid = \"a\"", 2, None, "not a list"),
        ("x = 1", 1, None, "`x`"),
        ("disable = [\"no-such-rule\"]", 1, Some("no-such-rule"), "no rule with this id"),
        ("ignore-files = [\"a/b\"]", 1, None, "not a file name"),
        (
            "[[path]]\nid = \"a\"\naction = \"hide\"\nmatch = [\"x\"]\nexamples = [\"y\"]",
            1,
            Some("a"),
            "example `y`",
        ),
        (
            "[[path]]\nid = \"a\"\naction = \"hide\"\nmatch = [\"x\"]\nnegatives = [\"d/x\"]",
            1,
            Some("a"),
            "negative `d/x`",
        ),
        (
            "[[path]]\nid = \"a\"\naction = \"hide\"\nmatch = [\"x\"]\n[[path]]\nid = \"a\"\naction = \"hide\"\nmatch = [\"x\"]",
            5,
            Some("a"),
            "twice",
        ),
    ] {
        let error = error_of(text, Origin::User);
        assert_eq!(
            (&*error.file, error.line, error.rule.as_deref()),
            ("my/rules.toml", line, rule),
            "{text}\n{error}"
        );
        assert!(error.problem.contains(part) && !error.hint.is_empty(), "{text}\n{error}");
        assert!(error.to_string().starts_with(&format!("my/rules.toml, line {line}")), "{error}");
    }
    for pattern in ["", "  ", "!x", "#x", "{a"] {
        let mut builder = PolicyBuilder::builtin();
        let hide = builder.hide(pattern).err().unwrap();
        let show = builder.show(pattern).err().unwrap();
        assert_eq!((&*hide.file, hide.line, &*show.file), ("--hide", 1, "--show"), "{pattern}: {hide}");
    }
}

#[test]
fn the_digest_covers_all_that_decides() {
    let rule = "[[path]]\nid = \"u\"\naction = \"hide\"\nmatch = [\"a\"]";
    let mut digests = vec![Policy::builtin().digest()];
    digests.push(user(rule).digest());
    digests.push(workspace(rule).digest());
    digests.push(options(&[("hide", "a")]).digest());
    digests.push(options(&[("show", "a")]).digest());
    digests.push(options(&[("hide", "a"), ("hide", "b")]).digest());
    digests.push(options(&[("hide", "b"), ("hide", "a")]).digest());
    digests.push(PolicyBuilder::builtin().strict(true).build().unwrap().digest());
    let distinct: BTreeSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
    assert_eq!(digests[0], PolicyBuilder::builtin().build().unwrap().digest());
}

#[test]
fn ignore_files_home_and_a_policy_that_failed() {
    let policy = user("ignore-files = [\".gitignore\"]");
    assert!(policy.is_ignore_file(b".gitignore") && policy.is_ignore_file(b".aiignore"));
    assert!(!Policy::builtin().is_ignore_file(b".gitignore"));
    let builtin = Policy::builtin();
    let home: Vec<&str> = builtin.home_rules().map(|(pattern, _)| pattern).collect();
    for pattern in [".ssh/", ".aws/", ".gnupg/", ".netrc", ".config/gcloud/", ".kube/", ".git-credentials"] {
        assert!(home.contains(&pattern), "{pattern}");
    }
    let failed = Policy::hide_all();
    assert_eq!(judge(&failed, "README.md"), PathAction::Hide);
    assert_eq!(Policy::builtin().path(&RelPath::root(), Kind::Dir).action, PathAction::Plain);
}
