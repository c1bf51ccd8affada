//! What a coding agent owns in the home directory. `run` gives it back to the agent that it starts: without its login an agent does nothing,
//! and a second login for each session would only mean more tokens. Every other agent's files stay covered. The list is data,
//! `rules/agents.toml`; were it damaged, nothing would be given back.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::RunError;

/// Which agent's files are given back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AgentChoice {
    /// Those of the agent that the command starts, if it is one.
    #[default]
    ByCommand,
    /// Nobody's.
    None,
    /// Those of the agent of this name.
    Named(String),
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    agent: Vec<Agent>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    name: String,
    programs: Vec<String>,
    own: Vec<PathBuf>,
}

fn list() -> Result<Vec<Agent>, toml::de::Error> {
    toml::from_str::<List>(include_str!("../../../rules/agents.toml")).map(|list| list.agent)
}

/// What the chosen agent owns, from the home directory. A command with a slash in it is no agent's: it may be a file of the workspace.
pub(super) fn own_files(choice: &AgentChoice, command: Option<&OsStr>) -> Result<Vec<PathBuf>, RunError> {
    let agents = list().unwrap_or_else(|error| {
        tracing::error!(%error, "the list of agents is damaged");
        Vec::new()
    });
    let found = match choice {
        AgentChoice::None => None,
        AgentChoice::ByCommand => {
            let program = command.and_then(OsStr::to_str).unwrap_or_default();
            agents.into_iter().find(|a| a.programs.iter().any(|p| p == program))
        }
        AgentChoice::Named(name) => {
            let known: Vec<String> = agents.iter().map(|a| a.name.clone()).collect();
            let found = agents.into_iter().find(|a| a.name == *name);
            Some(found.ok_or_else(|| RunError::NoAgent { name: name.clone(), known: known.join(", ") })?)
        }
    };
    Ok(found.map(|agent| agent.own).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_known_by_its_command_and_by_its_name() {
        let by = |command: &str| own_files(&AgentChoice::ByCommand, Some(OsStr::new(command))).unwrap();
        assert!(by("claude").contains(&PathBuf::from(".claude/")));
        assert!(by("codex").iter().all(|p| p.starts_with(".codex")));
        assert_eq!((by("bash"), by("./claude"), by("/w/claude")), (vec![], vec![], vec![]));
        let named = AgentChoice::Named("claude".to_owned());
        assert_eq!(own_files(&named, Some(OsStr::new("bash"))).unwrap(), by("claude"));
        assert_eq!(own_files(&AgentChoice::None, Some(OsStr::new("claude"))).unwrap(), Vec::<PathBuf>::new());
        let unknown = own_files(&AgentChoice::Named("clod".to_owned()), None).unwrap_err();
        assert!(unknown.to_string().contains("clod") && unknown.hint().unwrap().contains("claude, codex"));
    }

    #[test]
    fn agents_own_files_in_the_home_directory_and_nobody_owns_anothers() {
        let agents = list().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for agent in &agents {
            for path in &agent.own {
                assert!(path.is_relative() && path.components().all(|c| c.as_os_str() != ".."), "{path:?}");
                assert!(
                    path.components().count() > 0 && seen.insert(path.clone()),
                    "{path:?} is named twice"
                );
            }
        }
        for all in [".ssh", ".aws", ".config", ".local", ".local/share"] {
            assert!(!seen.contains(&PathBuf::from(all)), "{all} is given to an agent");
        }
    }
}
