//! Measurements for people, for programs and for the record.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, TableStyle, presets};
use serde::Serialize;

use super::Run;
use super::machine::Machine;

const BEGIN: &str = "<!-- load: begin -->";
const END: &str = "<!-- load: end -->";

/// All runs of one call of the load tool.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What it was measured on.
    pub machine: Machine,
    /// Version of the load tool.
    pub version: &'static str,
    /// The runs, in their order.
    pub runs: Vec<Run>,
}

/// A length for people.
#[must_use]
pub fn size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

const COLUMNS: [&str; 12] = [
    "payload",
    "clients",
    "put p50 / p95 / p99 / max, ms",
    "floor p50, ms",
    "times floor",
    "puts/s",
    "floor/s",
    "put MB/s",
    "get p50 / p95 / p99 / max, ms",
    "floor p50, ms",
    "times floor",
    "errors",
];

impl Report {
    fn table(&self, style: TableStyle) -> String {
        let mut table = Table::new();
        table.load_style(style).set_header(COLUMNS);
        for run in &self.runs {
            let times = |t: &super::Times| {
                format!("{:.1} / {:.1} / {:.1} / {:.1}", t.p50_ms, t.p95_ms, t.p99_ms, t.max_ms)
            };
            let ratio = |measured: f64, floor: f64| if floor > 0.0 { measured / floor } else { 0.0 };
            let errors: Vec<String> =
                run.errors.iter().map(|(class, count)| format!("{class} {count}")).collect();
            let puts = run.put_bytes_per_second / run.size.max(1) as f64;
            table.add_row([
                size(run.size),
                run.clients.to_string(),
                times(&run.put),
                format!("{:.1}", run.floor.put.p50_ms),
                format!("{:.2}", ratio(run.put.p50_ms, run.floor.put.p50_ms)),
                format!("{puts:.1}"),
                format!("{:.1}", run.floor.puts_per_second),
                format!("{:.1}", run.put_bytes_per_second / 1e6),
                times(&run.get),
                format!("{:.1}", run.floor.get.p50_ms),
                format!("{:.2}", ratio(run.get.p50_ms, run.floor.get.p50_ms)),
                if errors.is_empty() { "none".to_owned() } else { errors.join(", ") },
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    fn heading(&self) -> String {
        let m = &self.machine;
        format!(
            "{}, {} threads, {} MiB of memory, {}, {}",
            m.processor, m.threads, m.memory_mib, m.system, m.date
        )
    }

    /// The table for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}", self.heading(), self.table(presets::UTF8_FULL_CONDENSED))
    }

    /// The table for a page, between its marks.
    #[must_use]
    pub fn markdown(&self) -> String {
        let table = self.table(presets::ASCII_MARKDOWN);
        format!("{BEGIN}\n{} (load {}).\n\n{table}\n{END}\n", self.heading(), self.version)
    }

    /// Puts the table on a page: in the place of the last one, or at the end.
    ///
    /// # Errors
    /// When the page cannot be read or written.
    pub fn record(&self, page: &Path) -> Result<()> {
        let old = match fs::read_to_string(page) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", page.display())),
        };
        fs::write(page, placed(&old, &self.markdown())).with_context(|| format!("writing {}", page.display()))
    }
}

fn placed(page: &str, table: &str) -> String {
    if let (Some(begin), Some(end)) = (page.find(BEGIN), page.find(END))
        && begin < end
    {
        let rest = page[end + END.len()..].trim_start_matches('\n');
        let gap = if rest.is_empty() { "" } else { "\n" };
        return format!("{}{table}{gap}{rest}", &page[..begin]);
    }
    let page = page.trim_end();
    if page.is_empty() { table.to_owned() } else { format!("{page}\n\n{table}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_last_one() {
        let (one, two) = (format!("{BEGIN}\none\n{END}\n"), format!("{BEGIN}\ntwo\n{END}\n"));
        let page = placed("# Title\n", &one);
        assert_eq!(page, format!("# Title\n\n{one}"));
        assert_eq!(placed(&page, &two), format!("# Title\n\n{two}"));
        let more = format!("{page}\nafter\n");
        assert_eq!(placed(&more, &two), format!("# Title\n\n{two}\nafter\n"));
        assert_eq!(placed("", &one), one);
    }

    #[test]
    fn sizes_are_exact() {
        assert_eq!(size(130_044), "130044 B");
        assert_eq!((size(1 << 20), size(64 << 10)), ("1 MiB".into(), "64 KiB".into()));
    }
}
