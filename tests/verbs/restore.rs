//! `apply --restore`: a masked value that was copied into another file, as typed.

use crate::World;
use expect_test::expect;

const SECRET: &str = "Zx81kQpLmN44vRt0Yw7cHd";

#[test]
fn a_copied_mask_is_turned_back_only_where_restore_names_the_file() {
    let npmrc = format!("_auth={SECRET}\n");
    let Some(world) = World::new(&[(".npmrc", &npmrc), ("app.toml", "a = 1\n")]) else { return };
    let mask = world.read("m/.npmrc").trim_end().strip_prefix("_auth=").unwrap().to_owned();
    assert!(mask.len() == SECRET.len() && mask != SECRET);
    world.write("m/app.toml", &format!("a = 1\nauth = \"{mask}\"\n"));
    world.write("m/plain", "x\n");
    let said = world.session(&[
        "apply w --dry-run",
        "apply w --restore plain",
        "apply w --restore app.toml --dry-run",
        "apply w --restore app.toml",
    ]);
    expect![[r#"
        $ scrubfs apply w --dry-run
        nothing was applied
          gate      app.toml: secret (line 2 holds the mask of a secret of another file, which stays a mask unless `apply --restore` names the file)
        Hint: look at it with `scrubfs diff`, then `scrubfs apply --allow secret`, `scrubfs apply --restore app.toml` to put the secrets there, or name other paths
        [exit 3]
        $ scrubfs apply w --restore plain
        Error: no change that would be applied at plain holds the mask of another file's secret
        Hint: scrubfs status names the changes that do
        [exit 2]
        $ scrubfs apply w --restore app.toml --dry-run
        2 changes would be applied
          modified app.toml
          added plain
          note      app.toml: 1 mask becomes the secret of .npmrc
        $ scrubfs apply w --restore app.toml
        2 changes applied
          note      app.toml: 1 mask becomes the secret of .npmrc
        Hint: scrubfs undo takes it back
    "#]]
    .assert_eq(&said);
    assert_eq!(world.read("w/app.toml"), format!("a = 1\nauth = \"{SECRET}\"\n"));
    assert_eq!(world.read("m/app.toml"), format!("a = 1\nauth = \"{mask}\"\n"));
}

#[test]
fn without_restore_a_copied_mask_stays_a_mask() {
    let npmrc = format!("_auth={SECRET}\n");
    let Some(world) = World::new(&[(".npmrc", &npmrc)]) else { return };
    let text = world.read("m/.npmrc").replace("_auth=", "auth: ");
    world.write("m/new.yaml", &text);
    let (code, said) = world.run(&["apply", "w", "--allow", "secret:new.yaml"]);
    assert_eq!((code, world.read("w/new.yaml")), (0, text), "{said}");
}

/// A private key, each line indented by so many spaces; what it says is random, and the same each time.
fn key(indent: usize) -> String {
    const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = blake3::Hasher::new().finalize_xof();
    let mut line = || -> String {
        let mut bytes = [0; 64];
        random.fill(&mut bytes);
        bytes.iter().map(|b| char::from(BASE64[usize::from(b & 63)])).collect()
    };
    let mut lines = vec!["-----BEGIN PRIVATE KEY-----".to_owned()];
    lines.extend(std::iter::repeat_with(&mut line).take(6));
    lines.push("-----END PRIVATE KEY-----".to_owned());
    lines.iter().map(|line| format!("{}{line}\n", " ".repeat(indent))).collect()
}

#[test]
fn a_key_whose_lines_are_indented_otherwise_is_turned_back() {
    let file = |indent| format!("tls:\n  key: |\n{}", key(indent));
    let Some(world) = World::new(&[("conf.yaml", &file(4)), ("other.yaml", "a: 1\n")]) else { return };
    let masked = world.read("m/conf.yaml");
    assert!(masked.starts_with("tls:\n  key: |\n    -----BEGIN") && !masked.contains(&key(4)), "{masked}");
    // Moved in, in its own file.
    world.write("m/conf.yaml", &masked.replace("\n    ", "\n        "));
    let (code, said) = world.run(&["apply", "w"]);
    assert_eq!((code, world.read("w/conf.yaml")), (0, file(8)), "{said}");
    // And copied elsewhere, where only the user may have it turned back.
    let copy = format!("a: 1\n{}", world.read("m/conf.yaml").replace("\n        ", "\n  "));
    world.write("m/other.yaml", &copy);
    let (code, said) = world.run(&["apply", "w"]);
    assert_eq!((code, world.read("w/other.yaml").as_str()), (3, "a: 1\n"), "{said}");
    let (code, said) = world.run(&["apply", "w", "--restore", "other.yaml"]);
    assert_eq!((code, world.read("w/other.yaml")), (0, format!("a: 1\n{}", file(2))), "{said}");
}
