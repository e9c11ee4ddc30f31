//! Measurements for people, for programs and for the record.

use std::path::Path;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, TableStyle, presets};
use serde::Serialize;

use super::Run;
use super::machine::Machine;
use crate::page;

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

    /// Puts the table on a page: in the place of the last one, or at the end.
    ///
    /// # Errors
    /// When the page cannot be read or written.
    pub fn record(&self, page: &Path) -> Result<()> {
        let table = self.table(presets::ASCII_MARKDOWN);
        page::record(page, "load", &format!("{} (load {}).\n\n{table}", self.heading(), self.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        assert_eq!(size(130_044), "130044 B");
        assert_eq!((size(1 << 20), size(64 << 10)), ("1 MiB".into(), "64 KiB".into()));
    }
}
