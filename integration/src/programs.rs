//! The programs `da` and `da-node`, built as they are released.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// Where the workspace's programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds whatever is not up to date, once in each process. Everything that was built before with the same profile
    /// is used again.
    ///
    /// # Errors
    /// When the build fails.
    pub fn build() -> Result<&'static Self> {
        static BUILT: OnceLock<std::result::Result<Programs, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
        built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// The client's command.
    #[must_use]
    pub fn da(&self) -> Command {
        self.command("da")
    }

    /// The hosts' command.
    #[must_use]
    pub fn da_node(&self) -> Command {
        self.command("da-node")
    }

    /// A command of the workspace, in an environment without settings of its own.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("MERIDIAN_") || name.starts_with("OTEL_") {
                command.env_remove(&key);
            }
        }
        command
    }
}

fn build() -> Result<Programs> {
    // This program itself lies in FOLDER or in FOLDER/deps.
    let here = std::env::current_exe()?;
    let mut folder = here.parent().context("a program lies in a folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("deps lies in a folder")?;
    }
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate lies in a workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The same selection of packages as everywhere else, so that cargo chooses the same features and builds nothing twice.
    let output = Command::new(cargo)
        .current_dir(workspace)
        .args(["build", "--quiet", "--release", "--locked", "--workspace", "--bins", "--target-dir"])
        // Where this program lies, whatever the environment says: elsewhere all would be compiled again.
        .arg(folder.parent().context("the profile's folder lies in a target folder")?)
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo build failed: {}", String::from_utf8_lossy(&output.stderr));
    let folder = folder.to_owned();
    for name in ["da", "da-node"] {
        ensure!(folder.join(name).is_file(), "{} is not there", folder.join(name).display());
    }
    Ok(Programs { folder })
}
