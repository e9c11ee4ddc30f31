//! Copies of what members keep.

use std::fs;
use std::path::Path;

use anyhow::Result;

/// Copies a folder, but for files whose names are left out.
///
/// # Errors
/// When something cannot be read or written.
pub fn copy(from: &Path, to: &Path, is_left_out: &dyn Fn(&str) -> bool) -> Result<()> {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let (name, path) = (file.file_name(), file.path());
        if path.is_dir() {
            copy(&path, &to.join(name), is_left_out)?;
        } else if !is_left_out(&name.to_string_lossy()) {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
