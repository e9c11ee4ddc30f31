//! `da-node completions` and `da-node man`: the command's own documentation, from the command line's types.

use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// A completion script.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "da-node", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes the manual pages into a folder, which is made when it is not there, and tells their names.
///
/// # Errors
/// When they cannot be written.
pub fn man(folder: &Path) -> Result<Vec<String>> {
    let pages = || -> std::io::Result<Vec<String>> {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Cli::command(), folder)?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("da-node") && name.ends_with(".1") {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    };
    pages().with_context(|| format!("cannot write manual pages into {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_a_script() {
        let dir = tempfile::tempdir().unwrap();
        let pages = man(&dir.path().join("man")).unwrap();
        for page in
            ["da-node.1", "da-node-replica.1", "da-node-chain-committee-schedule.1", "da-node-doctor.1"]
        {
            assert!(pages.iter().any(|name| name == page), "{page} is not in {pages:?}");
        }
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            assert!(completions(shell).contains("doctor"), "{shell}");
        }
    }
}
