//! Keeps generated parts of the documentation true.

use std::fs;
use std::path::Path;

/// Checks that a file has the text between `<!-- NAME: begin -->` and `<!-- NAME: end -->`; REGENERATE=1 rewrites it.
pub(crate) fn check_section(path: &Path, name: &str, text: &str) {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let file = fs::read_to_string(path).unwrap();
    let (head, rest) = file.split_once(&begin).unwrap();
    let (old, tail) = rest.split_once(&end).unwrap();
    if std::env::var_os("REGENERATE").is_some() {
        fs::write(path, format!("{head}{begin}{text}{end}{tail}")).unwrap();
    } else {
        assert!(old == text, "{} drifted in section {name}: run with REGENERATE=1", path.display());
    }
}

/// Checks that a file is exactly this text; REGENERATE=1 rewrites it.
pub(crate) fn check_file(path: &Path, text: &str) {
    if std::env::var_os("REGENERATE").is_some() {
        fs::write(path, text).unwrap();
    } else {
        let old = fs::read_to_string(path).unwrap();
        assert!(old == text, "{} drifted: run with REGENERATE=1", path.display());
    }
}
