//! Which paths tools on the host run, source or obey by themselves: opening an editor, entering a directory, a commit or a push
//! is enough. Data, not code: a name, a directory or a path below one, each with its reason. Names are compared without
//! regard to case, at every depth, because tools look in parents and subprojects as well.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::path::RelPath;

const HOOKS: &str = "git hooks that run on commit, push or checkout";
const SHELL: &str = "a shell or tool on the host reads this when it starts";
const EDITOR: &str = "an editor obeys this (tasks, settings, interpreters) when the folder is opened";
const CONTAINER: &str = "commands that run when a development container or workspace starts";
const AGENT: &str = "coding agents obey this: instructions, hooks, permissions or tools";
const MCP: &str = "coding agents start the servers that this file lists";
const CI: &str = "a CI service runs this with the repository's credentials";
const DIRENV: &str = "runs when somebody enters the directory (direnv, mise)";
const MODULES: &str = "git fetches and checks out what this file names";
const GIT_CONFIG: &str = "git configuration may name programs to run";
const BUILD: &str = "a build tool loads this at every start, also from an editor";

/// Files by their own name.
const FILES: &[(&str, &str)] = &[
    (".gitmodules", MODULES),
    (".gitconfig", GIT_CONFIG),
    (".lfsconfig", GIT_CONFIG),
    (".pre-commit-config.yaml", HOOKS),
    (".pre-commit-config.yml", HOOKS),
    (".pre-commit-hooks.yaml", HOOKS),
    ("lefthook.yml", HOOKS),
    ("lefthook.yaml", HOOKS),
    (".lefthook.yml", HOOKS),
    (".lefthook.yaml", HOOKS),
    (".lefthook-local.yml", HOOKS),
    ("lefthook-local.yml", HOOKS),
    (".overcommit.yml", HOOKS),
    (".huskyrc", HOOKS),
    (".huskyrc.json", HOOKS),
    (".lintstagedrc", HOOKS),
    (".lintstagedrc.json", HOOKS),
    (".lintstagedrc.js", HOOKS),
    (".envrc", DIRENV),
    (".direnvrc", DIRENV),
    ("mise.toml", DIRENV),
    (".mise.toml", DIRENV),
    ("mise.local.toml", DIRENV),
    (".mise.local.toml", DIRENV),
    (".rtx.toml", DIRENV),
    (".autoenv", DIRENV),
    (".autoenv.zsh", DIRENV),
    (".bashrc", SHELL),
    (".bash_profile", SHELL),
    (".bash_login", SHELL),
    (".bash_logout", SHELL),
    (".bash_aliases", SHELL),
    (".profile", SHELL),
    (".zshrc", SHELL),
    (".zshenv", SHELL),
    (".zprofile", SHELL),
    (".zlogin", SHELL),
    (".zlogout", SHELL),
    (".kshrc", SHELL),
    (".cshrc", SHELL),
    (".tcshrc", SHELL),
    (".login", SHELL),
    (".logout", SHELL),
    (".inputrc", SHELL),
    (".xinitrc", SHELL),
    (".xprofile", SHELL),
    (".xsession", SHELL),
    (".xsessionrc", SHELL),
    (".ripgreprc", SHELL),
    (".screenrc", SHELL),
    (".tmux.conf", SHELL),
    (".curlrc", SHELL),
    (".wgetrc", SHELL),
    (".gdbinit", SHELL),
    (".lldbinit", SHELL),
    (".pdbrc", SHELL),
    (".irbrc", SHELL),
    (".pryrc", SHELL),
    (".rprofile", SHELL),
    (".renviron", SHELL),
    (".ghci", SHELL),
    (".iex.exs", SHELL),
    (".psqlrc", SHELL),
    (".sqliterc", SHELL),
    (".octaverc", SHELL),
    (".mailcap", SHELL),
    (".forward", SHELL),
    (".procmailrc", SHELL),
    ("sitecustomize.py", "Python runs this at every start"),
    ("usercustomize.py", "Python runs this at every start"),
    (".exrc", EDITOR),
    (".vimrc", EDITOR),
    (".gvimrc", EDITOR),
    (".nvimrc", EDITOR),
    (".nvim.lua", EDITOR),
    (".lvimrc", EDITOR),
    (".neoconf.json", EDITOR),
    (".dir-locals.el", EDITOR),
    (".dir-locals-2.el", EDITOR),
    (".emacs", EDITOR),
    (".kakrc", EDITOR),
    (".devcontainer.json", CONTAINER),
    (".gitpod.yml", CONTAINER),
    (".gitpod.dockerfile", CONTAINER),
    (".replit", CONTAINER),
    ("devfile.yaml", CONTAINER),
    (".mcp.json", MCP),
    ("mcp.json", MCP),
    ("agents.md", AGENT),
    ("agent.md", AGENT),
    ("agents.override.md", AGENT),
    ("claude.md", AGENT),
    ("claude.local.md", AGENT),
    ("gemini.md", AGENT),
    ("qwen.md", AGENT),
    ("crush.md", AGENT),
    ("warp.md", AGENT),
    ("copilot-instructions.md", AGENT),
    ("skill.md", AGENT),
    (".claude.json", AGENT),
    (".cursorrules", AGENT),
    (".windsurfrules", AGENT),
    (".clinerules", AGENT),
    (".roorules", AGENT),
    (".roomodes", AGENT),
    (".goosehints", AGENT),
    (".rules", AGENT),
    (".aider.conf.yml", AGENT),
    ("opencode.json", AGENT),
    ("opencode.jsonc", AGENT),
    ("crush.json", AGENT),
    (".crush.json", AGENT),
    (".gitlab-ci.yml", CI),
    (".gitlab-ci.yaml", CI),
    (".travis.yml", CI),
    ("jenkinsfile", CI),
    ("azure-pipelines.yml", CI),
    ("azure-pipelines.yaml", CI),
    ("bitbucket-pipelines.yml", CI),
    (".drone.yml", CI),
    (".woodpecker.yml", CI),
    (".woodpecker.yaml", CI),
    ("appveyor.yml", CI),
    (".appveyor.yml", CI),
    (".cirrus.yml", CI),
    (".cirrus.star", CI),
    ("buildspec.yml", CI),
    ("cloudbuild.yaml", CI),
    ("cloudbuild.yml", CI),
    (".build.yml", CI),
    ("screwdriver.yaml", CI),
    (".yarnrc", BUILD),
    (".yarnrc.yml", BUILD),
    (".pnp.cjs", BUILD),
    (".pnp.loader.mjs", BUILD),
    (".bazelrc", BUILD),
];

/// Directories by name: all beneath them.
const DIRS: &[(&str, &str)] = &[
    (".husky", HOOKS),
    (".githooks", HOOKS),
    (".git-hooks", HOOKS),
    (".lefthook", HOOKS),
    (".vscode", EDITOR),
    (".vscode-server", EDITOR),
    (".idea", EDITOR),
    (".fleet", EDITOR),
    (".zed", EDITOR),
    (".helix", EDITOR),
    (".vim", EDITOR),
    (".nvim", EDITOR),
    (".vs", EDITOR),
    (".nova", EDITOR),
    (".devcontainer", CONTAINER),
    (".gitpod", CONTAINER),
    (".claude", AGENT),
    (".claude-plugin", AGENT),
    (".cursor", AGENT),
    (".windsurf", AGENT),
    (".continue", AGENT),
    (".cline", AGENT),
    (".clinerules", AGENT),
    (".roo", AGENT),
    (".kilocode", AGENT),
    (".gemini", AGENT),
    (".codex", AGENT),
    (".opencode", AGENT),
    (".amazonq", AGENT),
    (".kiro", AGENT),
    (".junie", AGENT),
    (".augment", AGENT),
    (".trae", AGENT),
    (".qwen", AGENT),
    (".goose", AGENT),
    (".crush", AGENT),
    (".openhands", AGENT),
    (".agents", AGENT),
    (".agent", AGENT),
    (".mise", DIRENV),
    (".direnv", DIRENV),
    (".circleci", CI),
    (".buildkite", CI),
    (".woodpecker", CI),
    (".drone", CI),
    (".semaphore", CI),
    (".tekton", CI),
    (".azure-pipelines", CI),
    (".builds", CI),
    (".ci", CI),
];

/// Paths below the root of a project: a directory or a file, at every depth.
const PATHS: &[(&str, &str)] = &[
    (".github/workflows", CI),
    (".github/actions", CI),
    (".github/instructions", AGENT),
    (".github/prompts", AGENT),
    (".github/chatmodes", AGENT),
    (".github/agents", AGENT),
    (".github/hooks", AGENT),
    (".gitea/workflows", CI),
    (".forgejo/workflows", CI),
    (".gitlab/ci", CI),
    (".cargo/config", BUILD),
    (".cargo/config.toml", BUILD),
    (".mvn/extensions.xml", BUILD),
    (".mvn/jvm.config", BUILD),
    (".mvn/maven.config", BUILD),
    (".yarn/plugins", BUILD),
    (".yarn/releases", BUILD),
    (".config/fish", SHELL),
    (".config/autostart", SHELL),
    (".config/systemd", SHELL),
    (".config/git", GIT_CONFIG),
    (".config/mise", DIRENV),
    (".config/nvim", EDITOR),
    (".config/mise.toml", DIRENV),
    (".config/lefthook.yml", HOOKS),
    (".local/share/applications", SHELL),
];

/// Endings of names.
const ENDINGS: &[(&str, &str)] = &[
    (".code-workspace", EDITOR),
    (".pth", "Python runs `import` lines of this file at every start"),
    (".iml", EDITOR),
    ("action.yml", CI),
    ("action.yaml", CI),
];

/// Files with commands that a tool runs when it is asked to: shown, not blocked.
const SCRIPTS: &[&str] = &[
    "package.json",
    "makefile",
    "gnumakefile",
    "bsdmakefile",
    "build.rs",
    "justfile",
    ".justfile",
    "taskfile.yml",
    "taskfile.yaml",
    "cmakelists.txt",
    "cmakepresets.json",
    "meson.build",
    "wscript",
    "sconstruct",
    "configure",
    "configure.ac",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "conftest.py",
    "noxfile.py",
    "tox.ini",
    "dodo.py",
    "tasks.py",
    "rakefile",
    "gemfile",
    "build.gradle",
    "build.gradle.kts",
    "settings.gradle",
    "settings.gradle.kts",
    "gradle.properties",
    "gradlew",
    "gradlew.bat",
    "mvnw",
    "pom.xml",
    "build.xml",
    "build.sbt",
    "composer.json",
    "gruntfile.js",
    "gulpfile.js",
    "gulpfile.mjs",
    "build.zig",
    "mix.exs",
    "rebar.config",
    "flake.nix",
    "shell.nix",
    "default.nix",
    "devenv.nix",
    "dockerfile",
    "containerfile",
    "docker-compose.yml",
    "docker-compose.yaml",
    "compose.yml",
    "compose.yaml",
    "vagrantfile",
    "procfile",
    "tiltfile",
    "skaffold.yaml",
    "rust-toolchain",
    "rust-toolchain.toml",
    "cargo.toml",
    ".npmrc",
    ".pnpmfile.cjs",
    "pnpm-workspace.yaml",
    "deno.json",
    "deno.jsonc",
    "bunfig.toml",
    "vite.config.js",
    "vite.config.ts",
    "webpack.config.js",
    "rollup.config.js",
    "babel.config.js",
    "jest.config.js",
    "jest.config.ts",
    "vitest.config.ts",
    "eslint.config.js",
    "eslint.config.mjs",
    ".eslintrc.js",
    ".eslintrc.cjs",
    "prettier.config.js",
    ".prettierrc.js",
    "postcss.config.js",
    "tailwind.config.js",
    "tailwind.config.ts",
    "next.config.js",
    "next.config.mjs",
    "workspace",
    "module.bazel",
    "build.bazel",
];

static FILE_MAP: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| FILES.iter().copied().collect());
static DIR_MAP: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| DIRS.iter().copied().collect());

/// Why a tool would run or obey what is at `path` by itself; `None` if no such tool is known. A symbolic link with the name of a
/// listed directory counts as the directory.
pub(super) fn auto_exec(path: &RelPath, is_link: bool) -> Option<&'static str> {
    let lower = path.as_bytes().to_ascii_lowercase();
    let text = std::str::from_utf8(&lower).ok()?;
    let (dir, name) = text.rsplit_once('/').map_or(("", text), |(d, n)| (d, n));
    let by_name = FILE_MAP.get(name).copied();
    let by_ending = || ENDINGS.iter().find(|(e, _)| ends_with(name, e)).map(|(_, why)| *why);
    let by_dir = || dir.split('/').find_map(|c| DIR_MAP.get(c).copied());
    let by_link = || is_link.then(|| DIR_MAP.get(name).copied()).flatten();
    let by_path = || PATHS.iter().find(|(p, _)| holds_path(text, p)).map(|(_, why)| *why);
    by_name.or_else(by_ending).or_else(by_dir).or_else(by_link).or_else(by_path)
}

/// A file's ending, or (without a dot) its whole name.
fn ends_with(name: &str, ending: &str) -> bool {
    if ending.starts_with('.') { name.len() > ending.len() && name.ends_with(ending) } else { name == ending }
}

/// Whether `path` is or lies beneath `wanted`, at any depth.
fn holds_path(path: &str, wanted: &str) -> bool {
    path.match_indices(wanted).any(|(at, _)| {
        let before = at == 0 || path.as_bytes().get(at - 1) == Some(&b'/');
        let after = path.as_bytes().get(at + wanted.len());
        before && matches!(after, None | Some(b'/'))
    })
}

/// Whether the file holds commands that a build or package tool runs when it is asked to.
pub(super) fn has_scripts(path: &RelPath) -> bool {
    let Some(name) = path.file_name() else { return false };
    let lower = name.as_bytes().to_ascii_lowercase();
    SCRIPTS.iter().any(|s| s.as_bytes() == lower) || lower.ends_with(b".mk")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(path: &str) -> Option<&'static str> {
        auto_exec(&RelPath::parse(path).unwrap(), false)
    }

    #[test]
    fn what_the_host_runs_by_itself_is_named() {
        for path in [
            ".envrc",
            "sub/.envrc",
            ".husky/pre-commit",
            ".vscode/tasks.json",
            "a/.VSCode/settings.json",
            ".idea/runConfigurations/x.xml",
            ".devcontainer/devcontainer.json",
            ".mcp.json",
            ".claude/settings.json",
            ".cursor/rules/x.mdc",
            "AGENTS.md",
            "docs/CLAUDE.md",
            ".github/workflows/ci.yml",
            ".github/copilot-instructions.md",
            "mono/.github/workflows/ci.yml",
            ".bashrc",
            ".gitmodules",
            ".cargo/config.toml",
            "x.code-workspace",
            "venv/lib/site-packages/evil.pth",
            "action.yml",
        ] {
            assert!(why(path).is_some(), "{path}");
        }
        for path in [
            "src/main.rs",
            "vscode/tasks.json",
            ".github/ISSUE_TEMPLATE.md",
            ".github/workflows.md",
            "docs/agents.rst",
            "my.github/workflows/x",
            "Cargo.toml",
            "transaction.yml",
            ".vscode",
            ".pth",
            "ci/run",
        ] {
            assert_eq!(why(path), None, "{path}");
        }
        assert!(auto_exec(&RelPath::parse(".vscode").unwrap(), true).is_some());
    }

    #[test]
    fn the_tables_are_in_lower_case_and_without_doubles() {
        let mut seen = std::collections::HashSet::new();
        for (name, why) in FILES.iter().chain(PATHS).chain(ENDINGS) {
            assert_eq!(*name, name.to_lowercase());
            assert!(!why.is_empty() && seen.insert(*name), "{name}");
        }
        assert_eq!(FILE_MAP.len(), FILES.len());
        assert_eq!(DIR_MAP.len(), DIRS.len());
        assert!(SCRIPTS.iter().all(|s| *s == s.to_lowercase()));
    }

    #[test]
    fn commands_to_be_run_on_request_are_told_apart() {
        for path in ["package.json", "sub/Makefile", "build.rs", "rules.mk"] {
            let path = RelPath::parse(path).unwrap();
            assert!(has_scripts(&path) && auto_exec(&path, false).is_none(), "{path}");
        }
        assert!(!has_scripts(&RelPath::parse("src/lib.rs").unwrap()));
    }
}
