//! A real browser without a screen, for pages that programs write.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What the program may be called.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Finds the program in `PATH`; nothing, with a line that says so, where there is none.
///
/// # Errors
/// When there is none where `CI` is true.
pub fn find_or_skip() -> Result<Option<PathBuf>> {
    let folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let places = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = places.into_iter().find(|place| place.is_file());
    if found.is_none() {
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            bail!("there is no chromium: run .ci/deps");
        }
        println!("skipped: there is no chromium; .ci/deps installs it");
    }
    Ok(found)
}

/// The document that a page becomes once it is laid out, as text. Nothing but the file is opened.
///
/// # Errors
/// When the browser fails.
pub fn render(browser: &Path, page: &Path) -> Result<String> {
    let profile = tempfile::tempdir()?;
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .args(["--disable-sync", "--disable-default-apps", "--disable-extensions", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.canonicalize()?.display()))
        .stdin(Stdio::null())
        .output()
        .context("cannot start the browser")?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
