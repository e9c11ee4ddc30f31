//! Parts of pages that programs write.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts a text on a page between the marks of a name: in the place of the last one, or at the end.
///
/// # Errors
/// When the page cannot be read or written.
pub fn record(page: &Path, name: &str, text: &str) -> Result<()> {
    let old = match fs::read_to_string(page) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", page.display())),
    };
    fs::write(page, placed(&old, name, text)).with_context(|| format!("writing {}", page.display()))
}

fn placed(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let text = format!("{begin}\n{}\n{end}\n", text.trim_end());
    if let (Some(from), Some(to)) = (page.find(&begin), page.find(&end))
        && from < to
    {
        let rest = page[to + end.len()..].trim_start_matches('\n');
        let gap = if rest.is_empty() { "" } else { "\n" };
        return format!("{}{text}{gap}{rest}", &page[..from]);
    }
    let page = page.trim_end();
    if page.is_empty() { text } else { format!("{page}\n\n{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_the_place_of_the_last_one() {
        let marked = |text: &str| format!("<!-- load: begin -->\n{text}\n<!-- load: end -->\n");
        let page = placed("# Title\n", "load", "one");
        assert_eq!(page, format!("# Title\n\n{}", marked("one")));
        assert_eq!(placed(&page, "load", "two\n"), format!("# Title\n\n{}", marked("two")));
        let more = format!("{page}\nafter\n");
        assert_eq!(placed(&more, "load", "two"), format!("# Title\n\n{}\nafter\n", marked("two")));
        assert_eq!(placed("", "load", "one"), marked("one"));
        assert!(placed(&page, "other", "two").contains(&marked("one")), "another name's text is left alone");
    }
}
